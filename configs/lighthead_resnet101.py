"""Light-Head R-CNN, ResNet-101, COCO train+val minus minival.

    python tools/train.py configs/lighthead_resnet101.py

The original network; the authors' code reaches 40.0 mmAP on minival. Not
trained here.
"""

_base_ = '_base_/models/lighthead_resnet.py'
