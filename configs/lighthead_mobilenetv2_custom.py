"""Light-Head R-CNN, MobileNet V2 0.6 (141 MFLOPs), on your own data set.

    python tools/train.py configs/lighthead_mobilenetv2_custom.py \
        --data-root DIR
"""

_base_ = './lighthead_shufflenetv2_custom.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StagedMobileNetV2',
        widen_factor=0.6,
        out_indices=(4, 6),
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        # There are no public weights.
        init_cfg=_base_.scratch_init,
    ),
    neck=dict(in_channels=(58, 192)),
    rpn_head=dict(in_channels=58),
)
