"""DenseNet 0.5x on ImageNet.

Paper (Table 8, 40 MFLOPs): 58.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='densenet_x0_5')
