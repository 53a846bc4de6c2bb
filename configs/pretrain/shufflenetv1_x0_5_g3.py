"""ShuffleNet V1 0.5x (g=3) on ImageNet.

Paper (Table 8, 40 MFLOPs): 43.2 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v1_x0_5_g3')
