"""ShuffleNet V2 0.5x on ImageNet.

Paper (Table 8, 40 MFLOPs): 39.7 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_x0_5')
