"""PNASNet-5 (mobile) on ImageNet.

Paper (Table 8, 500 MFLOPs): 25.8 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='pnasnet_5')
