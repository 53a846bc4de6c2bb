"""Shared by the configs in ``swap/``: a three-level backbone for FPNs."""

custom_imports = dict(imports=['mmdet_shufflenetv2'])

shufflenetv2 = dict(
    type='ShuffleNetV2',
    widen_factor=1.0,
    out_indices=(0, 1, 2),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
    ),
)
normalised_rgb = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
# mmdet's 1x steps, scaled to the length of the run.
steps_1x = dict(
    type='OfRun',
    convert_to_iter_based=True,
    scheduler=dict(
        type='MultiStepLR', milestones=[8 / 12, 11 / 12], gamma=0.1
    ),
)
