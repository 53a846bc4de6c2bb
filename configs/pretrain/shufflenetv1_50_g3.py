"""ShuffleNet V1-50 (g=3) on ImageNet.

Paper (Table 6): 25.2 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v1_50_g3')
