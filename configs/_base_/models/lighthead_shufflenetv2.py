"""Light-Head R-CNN with ShuffleNet V2 1x and default settings.

``_base_/lighthead_protocol.py`` changes them to the authors' settings. These
are the points on which implementations differ, default first:

- stage 4 at stride 32 | dilated to 16: ``backbone.strides=(2, 2, 1)``,
  ``backbone.dilations=(1, 1, 2)``, ``roi_layer`` on ``featmap_strides=[16]``
- RPN on stage 3 | stage 4: ``neck.rpn_level`` and the head's strides
- conv5 in | out: ``backbone.out_indices=(1, 2)``
- ReLU once after the sum | after every convolution: ``neck.act_each``
- PSRoIAlign average | max of 2x2 without half-pixel offset | PSRoIPool:
  ``bbox_roi_extractor.roi_layer``
- class-specific | class-agnostic boxes: ``bbox_head.reg_class_agnostic``
- random sampling | hard examples: ``bbox_head.ohem_num=256``, all RoIs sampled
- test NMS at 0.5 | 0.3: ``test_cfg.rcnn.nms.iou_threshold``
"""

model = dict(
    type='LightHeadRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='ShuffleNetV2', widen_factor=1.0, out_indices=(1, 3)),
    neck=dict(
        type='LightHeadNeck',
        in_channels=(232, 1024),
        out_channels=490,
        mid_channels=64,
        kernel_size=15,
    ),
    rpn_head=dict(
        type='LightHeadRPNHead',
        in_channels=232,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[2, 4, 8, 16, 32],
            ratios=[0.5, 1.0, 2.0],
            strides=[16],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(
            type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0
        ),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='LightHeadRoIHead',
        bbox_roi_extractor=dict(
            type='PSRoIExtractor',
            roi_layer=dict(type='PSRoIAlign', output_size=7, sampling_ratio=2),
            out_channels=10,
            featmap_strides=[32],
        ),
        bbox_head=dict(
            type='LightHeadBBoxHead',
            in_channels=10,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            reg_class_agnostic=False,
            loss_cls=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
            ),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=6000,
            max_per_img=2000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=6000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            score_thr=0.01,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
        ),
    ),
)
