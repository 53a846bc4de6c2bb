"""mmdet's RTMDet-tiny with ShuffleNet V2 1x. Not trained here.

The base feeds BGR images; ours are trained on RGB.
"""

_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
custom_imports = dict(imports=['mmdet_shufflenetv2'])

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=1.0,
        out_indices=(0, 1, 2),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
        ),
    ),
    neck=dict(in_channels=[116, 232, 464]),
)

# mmdet's schedule, whose times follow the length of the run here.
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
