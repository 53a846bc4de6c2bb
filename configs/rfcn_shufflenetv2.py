"""R-FCN, ShuffleNet V2 1x, COCO train+val minus minival.

    python tools/train.py configs/rfcn_shufflenetv2.py
    python tools/test.py configs/rfcn_shufflenetv2.py CKPT --eval bbox

Not trained here.
"""

_base_ = [
    '_base_/models/rfcn_shufflenetv2.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_20e.py',
    '_base_/default_runtime.py',
]
