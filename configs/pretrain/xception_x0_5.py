"""Xception 0.5x on ImageNet.

Paper (Table 8, 40 MFLOPs): 44.9 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='xception_x0_5')
