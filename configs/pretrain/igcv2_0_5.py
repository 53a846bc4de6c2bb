"""IGCV2 0.5 on ImageNet.

Paper (Table 8, 140 MFLOPs): 34.5 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv2_0_5')
