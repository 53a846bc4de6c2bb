"""mmdet's Faster R-CNN FPN with ShuffleNet V2 1x. Not trained here.

The backbone's first level has stride 8, so every stride is doubled.
"""

_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.shufflenetv2),
    neck=dict(in_channels=[116, 232, 464], num_outs=4),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64])),
    roi_head=dict(
        # Twice mmdet's 56, because the strides are doubled.
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32], finest_scale=112)
    ),
)

param_scheduler = [_base_.param_scheduler[0], _base_.steps_1x]
