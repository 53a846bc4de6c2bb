"""R-FCN (arXiv 1605.06409) with ShuffleNet V2 1x and the same protocol.

As in R-FCN, the maps have stride 16 (stage 4 is dilated), conv5 serves as the
paper's 1024-channel layer, bins are averages, and the bins vote for scores and
one class-agnostic box.
"""

_base_ = '../lighthead_protocol.py'

model = dict(
    type='RFCN',
    backbone=dict(
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='RFCNNeck',
        in_channels=(232, 1024),
        num_classes=80,
        mid_channels=None,
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(_delete_=True, type='PSRoIPool', output_size=7),
            out_channels=85,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            _delete_=True,
            type='RFCNBBoxHead',
            num_classes=80,
            ohem_num=256,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
            ),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=2.0),
        ),
    ),
)
