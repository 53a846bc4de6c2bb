"""Light-Head R-CNN, ShuffleNet V2 1x, on your own COCO-format folder.

    python tools/train.py configs/lighthead_shufflenetv2_custom.py \
        --data-root DIR
    python tools/test.py configs/lighthead_shufflenetv2_custom.py CKPT \
        --data-root DIR --eval bbox
    python tools/demo.py IMAGE configs/lighthead_shufflenetv2_custom.py CKPT

Made for small data sets and from-scratch training: AdamW, small images,
classes read from the annotation file.
"""

_base_ = [
    '_base_/models/lighthead_shufflenetv2.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/adamw_30e.py',
    '_base_/default_runtime.py',
]

# Small images have few anchors, and few of them survive.
model = dict(
    train_cfg=dict(rpn_proposal=dict(nms_pre=2000, max_per_img=1000)),
    test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=300)),
)

scale = (480, 360)
train_pipeline = [
    dict(type='LoadImageStrict'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageStrict'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        filter_cfg=dict(_delete_=True, filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
