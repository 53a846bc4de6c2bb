"""COCO: train+val minus minival for training, minival for testing.

In 2017 naming these are train2017 (118287 images) and val2017 (5000).
``tools/prepare_coco.py`` checks a folder of either year and makes the same
split from the 2014 files.
"""

dataset_type = 'BoxDataset'
data_root = 'data/coco/'
# Classes go by name, so the order of categories in a file does not matter.
classes = (
    'person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, '
    'traffic light, fire hydrant, stop sign, parking meter, bench, bird, '
    'cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, '
    'umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, '
    'sports ball, kite, baseball bat, baseball glove, skateboard, '
    'surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, '
    'bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, '
    'pizza, donut, cake, chair, couch, potted plant, bed, dining table, '
    'toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, '
    'oven, toaster, sink, refrigerator, book, clock, vase, scissors, '
    'teddy bear, hair drier, toothbrush'
)
metainfo = dict(classes=tuple(classes.split(', ')))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1200, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1200, 800), keep_ratio=True),
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
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    # Padding to the size of other images in a batch changes scores.
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# COCO defines its 12 metrics at 1, 10 and 100 boxes per image.
val_evaluator = dict(
    type='BoxMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
    proposal_nums=(1, 10, 100),
)
test_evaluator = val_evaluator
