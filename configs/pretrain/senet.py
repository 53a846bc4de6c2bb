"""SENet-154 on ImageNet.

Paper (Table 6): 18.68 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='senet')
