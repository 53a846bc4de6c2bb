"""Xception 1.0x on ImageNet.

Paper (Table 8, 140 MFLOPs): 34.1 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='xception_x1_0')
