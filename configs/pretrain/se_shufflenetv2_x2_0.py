"""SE-ShuffleNet V2 2.0x on ImageNet.

Paper (Table 8, 500 MFLOPs): 24.6 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='se_shufflenet_v2_x2_0')
