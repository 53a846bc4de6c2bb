"""Light-Head R-CNN, ShuffleNet V2 0.5x, 320x320, COCO.

    python tools/train.py configs/light/lighthead_shufflenetv2_x0_5_320.py
    python tools/test.py configs/light/lighthead_shufflenetv2_x0_5_320.py \
        CKPT --eval bbox

Not trained here.
"""

_base_ = 'lighthead_shufflenetv2_x1_0_320.py'

model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(96, 192)),
    rpn_head=dict(in_channels=96),
)
