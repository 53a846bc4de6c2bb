"""R-FCN, ShuffleNet V2 1x, COCO train+val minus minival.

    python tools/train.py configs/rfcn_shufflenetv2.py
    python tools/test.py configs/rfcn_shufflenetv2.py CKPT --eval bbox

Not trained here.
"""

_base_ = '_base_/models/rfcn_shufflenetv2.py'
