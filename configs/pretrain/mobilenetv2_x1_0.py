"""MobileNet V2 1.0x on ImageNet.

Paper (Table 8, 300 MFLOPs): 28 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v2_x1_0')
