"""mmdet's RetinaNet with ShuffleNet V2* 1x. Not trained here."""

_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmdet_shufflenetv2'])

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=1.0,
        receptive_field='enlarged',
        out_indices=(0, 1, 2),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
        ),
    ),
    neck=dict(in_channels=[116, 232, 464], start_level=0),
)

# mmdet's schedule, whose times follow the length of the run here.
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        scheduler=dict(
            type='MultiStepLR', milestones=[8 / 12, 11 / 12], gamma=0.1
        ),
    ),
]
