"""Light-Head R-CNN, ShuffleNet V2 1x, COCO train+val minus minival.

    python tools/train.py configs/lighthead_shufflenetv2.py
    python tools/test.py configs/lighthead_shufflenetv2.py CKPT --eval bbox

Paper (Table 7, 140 MFLOPs): 29.0 mmAP. Not trained here.
"""

_base_ = [
    '_base_/models/lighthead_shufflenetv2.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_20e.py',
    '_base_/default_runtime.py',
]
