"""ShuffleNet V1 2.0x (g=3) on ImageNet.

Paper (Table 8, 500 MFLOPs): 26.3 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v1_x2_0_g3')
