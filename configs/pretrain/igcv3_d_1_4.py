"""IGCV3-D 1.4 on ImageNet.

Paper (Table 8, 500 MFLOPs): 25.5 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='igcv3_d_1_4')
