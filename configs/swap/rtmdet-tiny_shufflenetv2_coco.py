"""mmdet's RTMDet-tiny with ShuffleNet V2 1x. Not trained here.

The base config feeds BGR images; the pretrained weights expect RGB.
"""

_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

model = dict(
    data_preprocessor=_base_.normalised_rgb,
    backbone=dict(_delete_=True, **_base_.shufflenetv2),
    neck=dict(in_channels=[116, 232, 464]),
)

# mmdet's schedule, scaled to the length of the run.
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        share=(0.5, 1.0),
        scheduler=dict(
            type='CosineAnnealingLR', eta_min=_base_.base_lr * 0.05
        ),
    ),
]
