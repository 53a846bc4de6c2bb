"""mmdet's FCOS with SE-ShuffleNet V2 1x. Not trained here.

The base config feeds unscaled BGR images; this one feeds normalised RGB.
"""

_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

model = dict(
    data_preprocessor=_base_.normalised_rgb,
    backbone=dict(
        _delete_=True,
        # There are no public weights with SE.
        **{**_base_.shufflenetv2, 'with_se': True, 'init_cfg': None},
    ),
    neck=dict(in_channels=[116, 232, 464], start_level=0),
)

param_scheduler = [_base_.param_scheduler[0], _base_.steps_1x]
