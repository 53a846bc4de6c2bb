"""IGCV3-D 1.0 on ImageNet.

Paper (Table 8, 300 MFLOPs): 27.8 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv3_d_1_0')
