"""Light-Head R-CNN, ShuffleNet V1 1x (3 groups), on your own data set.

    python tools/train.py configs/lighthead_shufflenetv1_custom.py \
        --data-root DIR
"""

_base_ = './lighthead_shufflenetv2_custom.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV1',
        groups=3,
        out_indices=(1, 2),
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        init_cfg=_base_.model.backbone.init_cfg,
    ),
    neck=dict(in_channels=(480, 960)),
    rpn_head=dict(in_channels=480),
)
