"""MobileNet V2 1.4x on ImageNet.

Paper (Table 8, 500 MFLOPs): 25.3 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v2_x1_4')
