"""ShuffleNet V1 1.0x (g=3) on ImageNet.

Paper (Table 8, 140 MFLOPs): 32.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v1_x1_0_g3')
