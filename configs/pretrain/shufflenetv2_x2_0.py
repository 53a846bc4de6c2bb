"""ShuffleNet V2 2.0x on ImageNet.

Paper (Table 8, 500 MFLOPs): 25.1 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_x2_0')
