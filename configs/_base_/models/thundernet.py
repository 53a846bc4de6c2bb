"""ThunderNet (arXiv 1903.11752) with SNet146 at 320x320.

From the paper: CEM, SAM, an RPN with a 5x5 depthwise convolution and 256
channels, 25 anchors (5 scales, 5 ratios), PSRoI align to 7x7x5, fc 1024, OHEM,
200 test proposals. Everything else is as in this project's Light-Head R-CNN.
"""

_base_ = './lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(_delete_=True, type='SNet', depth=146),
    neck=dict(
        _delete_=True,
        type='ThunderNetNeck',
        in_channels=(264, 528),
        out_channels=245,
        rpn_channels=256,
    ),
    rpn_head=dict(
        type='ThunderNetRPNHead',
        in_channels=256,
        anchor_generator=dict(
            scales=[2, 4, 8, 16, 32], ratios=[0.5, 0.75, 1.0, 4 / 3, 2.0]
        ),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=5, featmap_strides=[16]),
        bbox_head=dict(
            in_channels=5,
            fc_out_channels=1024,
            reg_class_agnostic=True,
            ohem_num=256,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        # Keep all RoIs and the ground truth, for OHEM to choose from.
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='RandomSampler',
                num=10_000,
                pos_fraction=1.0,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            )
        ),
    ),
    test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=200)),
)
