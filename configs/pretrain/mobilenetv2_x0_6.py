"""MobileNet V2 0.6x on ImageNet.

Paper (Table 8, 140 MFLOPs): 33.3 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v2_x0_6')
