"""MobileNet V1 1.0x on ImageNet.

Paper (Table 8, 500 MFLOPs): 29.4 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v1_x1_0')
