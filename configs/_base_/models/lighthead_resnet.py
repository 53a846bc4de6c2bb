"""Light-Head R-CNN with ResNet-101, as in the original.

The thin map (256 mid channels) comes from stage 5, dilated to stride 16, and
the RPN (512 channels) reads stage 4; see network_desp.py of the authors' code.
"""

_base_ = '../lighthead_protocol.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=101,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    neck=dict(in_channels=(1024, 2048), mid_channels=256),
    rpn_head=dict(in_channels=1024, feat_channels=512),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[16])),
)
