"""Light-Head R-CNN, ResNet-101, COCO train+val minus minival.

    python tools/train.py configs/lighthead_resnet101.py \
        --backbone-weights FILE

FILE: ImageNet weights such as torchvision's ``resnet101``. The recipe is the
original's, and its authors' code reaches 40.0 mmAP on minival with it. Not
trained here.
"""

_base_ = [
    '_base_/models/lighthead_resnet.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_20e.py',
    '_base_/default_runtime.py',
]
