"""Light-Head R-CNN, the light Xception 1x, on your own data set.

    python tools/train.py configs/lighthead_xception_custom.py \
        --data-root DIR
"""

_base_ = './lighthead_shufflenetv2_custom.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='Xception',
        out_indices=(1, 2),
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        # There are no public weights.
        init_cfg=_base_.scratch_init,
    ),
    neck=dict(in_channels=(288, 576)),
    rpn_head=dict(in_channels=288),
)
