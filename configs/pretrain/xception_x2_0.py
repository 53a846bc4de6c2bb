"""Xception 2.0x on ImageNet.

Paper (Table 8, 500 MFLOPs): 27.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='xception_x2_0')
