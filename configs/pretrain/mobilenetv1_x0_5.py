"""MobileNet V1 0.5x on ImageNet.

Paper (Table 8, 140 MFLOPs): 36.3 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v1_x0_5')
