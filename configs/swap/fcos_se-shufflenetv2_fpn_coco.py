"""mmdet's FCOS with SE-ShuffleNet V2 1x. Not trained here.

The base feeds BGR images without scaling; ours are trained on normalised
RGB.
"""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
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
        with_se=True,
        out_indices=(0, 1, 2),
        # There are no public weights with SE.
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
