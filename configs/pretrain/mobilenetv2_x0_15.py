"""MobileNet V2 0.15x on ImageNet.

Paper (Table 8, 40 MFLOPs): 55.1 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v2_x0_15')
