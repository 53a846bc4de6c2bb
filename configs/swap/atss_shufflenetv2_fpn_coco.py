"""mmdet's ATSS with ShuffleNet V2 1x. Not trained here."""

_base_ = [
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

model = dict(
    backbone=dict(_delete_=True, **_base_.shufflenetv2),
    neck=dict(in_channels=[116, 232, 464], start_level=0),
)

param_scheduler = [_base_.param_scheduler[0], _base_.steps_1x]
