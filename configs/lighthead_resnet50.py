"""Light-Head R-CNN, ResNet-50, COCO train+val minus minival.

    python tools/train.py configs/lighthead_resnet50.py

Not trained here.
"""

_base_ = 'lighthead_resnet101.py'

model = dict(
    backbone=dict(depth=50, init_cfg=dict(checkpoint='torchvision://resnet50'))
)
