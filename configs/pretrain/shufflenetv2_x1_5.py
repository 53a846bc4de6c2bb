"""ShuffleNet V2 1.5x on ImageNet.

Paper (Table 8, 300 MFLOPs): 27.4 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_x1_5')
