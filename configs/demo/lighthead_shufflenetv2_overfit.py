"""Overfit the main network on a few images, as a sanity check.

    python tools/train.py configs/demo/lighthead_shufflenetv2_overfit.py \
        --data-root DIR --val-ann annotations/instances_train2017.json \
        --val-img train2017

Run this before a long run on new data. It uses small images, no augmentation
and random initial weights.
"""

_base_ = [
    '../_base_/models/lighthead_shufflenetv2.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/adamw_30e.py',
    '../_base_/default_runtime.py',
    '../_base_/scratch_init.py',
]

model = dict(
    backbone=dict(init_cfg=_base_.scratch_init),
    rpn_head=dict(anchor_generator=dict(scales=[1, 2, 4, 8, 16])),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2000, max_per_img=500),
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
    test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=300)),
)

scale = (480, 360)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
train_pipeline[3].prob = 0.0
test_pipeline[1].scale = scale
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=150, val_interval=30)
# Overfitting is the aim, so no weight decay.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
