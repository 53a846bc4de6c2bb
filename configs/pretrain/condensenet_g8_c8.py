"""CondenseNet (G=C=8) on ImageNet.

Paper (Table 8, 300 MFLOPs): 29 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='condensenet_g8_c8')
