"""MobileNet V1 0.75x on ImageNet.

Paper (Table 8, 300 MFLOPs): 31.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v1_x0_75')
