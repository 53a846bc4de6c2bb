"""ShuffleNet V1 1.5x (g=3) on ImageNet.

Paper (Table 8, 300 MFLOPs): 28.5 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v1_x1_5_g3')
