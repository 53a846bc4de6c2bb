"""Light-Head R-CNN, ShuffleNet V2 1x, on your own pictures.

    python tools/train.py configs/lighthead_shufflenetv2_custom.py \
        --data-root DIR
    python tools/test.py configs/lighthead_shufflenetv2_custom.py CKPT \
        --data-root DIR --eval bbox
    python tools/demo.py IMAGE configs/lighthead_shufflenetv2_custom.py CKPT

This recipe is for small data sets and differs from the paper's: AdamW, small
images, no frozen layers, few and balanced samples. It starts from ImageNet
weights, or from random ones with ``--from-scratch``.
"""

_base_ = [
    '_base_/models/lighthead_shufflenetv2.py',
    '_base_/datasets/coco_detection.py',
    '_base_/augmentation.py',
    '_base_/schedules/adamw_30e.py',
    '_base_/default_runtime.py',
    '_base_/scratch_init.py',
]

model = dict(
    # A thin map at stride 16 keeps the detail of small images. Classes are
    # learned faster without conv5 and with a shorter kernel.
    backbone=dict(
        out_indices=(1, 2),
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        init_cfg=[
            *_base_.scratch_init,
            dict(
                type='Pretrained',
                checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
            ),
        ],
    ),
    neck=dict(
        in_channels=(232, 464),
        kernel_size=7,
        norm=True,
        init_cfg=_base_.small_init,
    ),
    # Half of the main config's sizes, like the images.
    rpn_head=dict(anchor_generator=dict(scales=[1, 2, 4, 8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(aligned=False), featmap_strides=[16]
        ),
        bbox_head=dict(reg_class_agnostic=True),
    ),
    # Small images have few anchors, and few of them survive.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        # Few, balanced samples keep background from dominating the classes,
        # and common classes from dominating rare ones.
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='CombinedSampler',
                num=128,
                pos_fraction=0.5,
                add_gt_as_proposals=True,
                pos_sampler=dict(type='InstanceBalancedPosSampler'),
                neg_sampler=dict(type='RandomSampler'),
            )
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=2000, max_per_img=300),
        rcnn=dict(nms=dict(type='soft_voting')),
    ),
)

# Validate and save averaged weights. Small data sets have few steps, so the
# averaging window grows to its 1000 steps within the first few hundred.
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.001,
        gamma=200,
        update_buffers=True,
        priority=49,
    ),
]

# Larger if boxes are small, see docs/training.md; --image-size overrides it.
image_size_from_data = True
scale = _base_.scale
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    *_base_.augmentation.light,
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = scale

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        filter_cfg=dict(_delete_=True, filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
