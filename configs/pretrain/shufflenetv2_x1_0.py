"""ShuffleNet V2 1.0x on ImageNet.

Paper (Table 8, 140 MFLOPs): 30.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_x1_0')
