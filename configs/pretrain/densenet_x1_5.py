"""DenseNet 1.5x on ImageNet.

Paper (Table 8, 300 MFLOPs): 39.9 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='densenet_x1_5')
