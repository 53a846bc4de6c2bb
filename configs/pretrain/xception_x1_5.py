"""Xception 1.5x on ImageNet.

Paper (Table 8, 300 MFLOPs): 29.4 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='xception_x1_5')
