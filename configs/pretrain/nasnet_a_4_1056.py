"""NASNet-A (4 @ 1056) on ImageNet.

Paper (Table 8, 500 MFLOPs): 26 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='nasnet_a_4_1056')
