"""mmdet's YOLOX-tiny with ShuffleNet V2 1x. Not trained here.

The base config feeds unscaled BGR images; the pretrained weights expect
normalised RGB.
"""

_base_ = [
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

model = dict(
    data_preprocessor=_base_.normalised_rgb,
    backbone=dict(_delete_=True, **_base_.shufflenetv2),
    neck=dict(in_channels=[116, 232, 464]),
)

# mmdet's schedule, scaled to the length of the run.
param_scheduler = [
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        share=(0.0, 5 / 300),
        scheduler=dict(type='mmdet.QuadraticWarmupLR'),
    ),
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        share=(5 / 300, 285 / 300),
        scheduler=dict(
            type='CosineAnnealingLR',
            eta_min=_base_.base_lr * 0.05,
            T_max=285 / 300,
        ),
    ),
]
