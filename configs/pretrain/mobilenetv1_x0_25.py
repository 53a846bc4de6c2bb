"""MobileNet V1 0.25x on ImageNet.

Paper (Table 8, 40 MFLOPs): 49.4 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v1_x0_25')
