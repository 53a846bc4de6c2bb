"""SE-ShuffleNet V2-164 on ImageNet.

Paper (Table 6): 18.56 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='se_shufflenet_v2_164')
