"""IGCV3-D 0.7 on ImageNet.

Paper (Table 8, 140 MFLOPs): 31.5 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv3_d_0_7')
