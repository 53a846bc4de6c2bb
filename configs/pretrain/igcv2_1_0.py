"""IGCV2 1.0 on ImageNet.

Paper (Table 8, 500 MFLOPs): 29.3 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv2_1_0')
