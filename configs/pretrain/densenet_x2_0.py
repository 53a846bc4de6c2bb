"""DenseNet 2.0x on ImageNet.

Paper (Table 8, 500 MFLOPs): 34.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='densenet_x2_0')
