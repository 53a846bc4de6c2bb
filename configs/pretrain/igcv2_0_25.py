"""IGCV2 0.25 on ImageNet.

Paper (Table 8, 40 MFLOPs): 45.1 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv2_0_25')
