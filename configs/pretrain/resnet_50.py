"""ResNet-50 on ImageNet.

Paper (Table 6): 24 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='resnet_50')
