"""DenseNet 1.0x on ImageNet.

Paper (Table 8, 140 MFLOPs): 45.2 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='densenet_x1_0')
