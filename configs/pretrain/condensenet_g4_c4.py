"""CondenseNet (G=C=4) on ImageNet.

Paper (Table 8, 500 MFLOPs): 26.2 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='condensenet_g4_c4')
