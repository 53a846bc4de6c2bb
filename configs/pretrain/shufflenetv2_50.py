"""ShuffleNet V2-50 on ImageNet.

Paper (Table 6): 22.8 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_50')
