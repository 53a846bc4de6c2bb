"""Light-Head R-CNN around a ResNet, by the original's recipe.

What its authors' code (https://github.com/zengarden/light_head_rcnn, the
experiment with PSRoIAlign) has other than the base: a thin map of mid 256 on
stage 5, dilated to stride 16; an RPN of 512 channels on stage 4, 12000
proposals ranked in training; a bin is the largest of 2x2 samples without
half-pixel offset; the 256 RoIs of an image with the largest loss train; the
box loss counts twice; all batch norms, the stem and the first stage stay as
they were pretrained; no score is too low. The data, the input size and the
schedule are those of the other configs.
"""

_base_ = './lighthead_shufflenetv2.py'

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
    ),
    neck=dict(in_channels=(1024, 2048), mid_channels=256),
    rpn_head=dict(
        in_channels=1024,
        feat_channels=512,
        # Sigma 3 of the smooth L1 loss.
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(mode='max', aligned=False), featmap_strides=[16]
        ),
        bbox_head=dict(
            num_hard=256,
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=2.0),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=12000),
        rcnn=dict(sampler=dict(_delete_=True, type='PseudoSampler')),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
