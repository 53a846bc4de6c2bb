"""ShuffleNet V2* 0.5x on ImageNet.

The paper has no classification error of it. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_star_x0_5')
