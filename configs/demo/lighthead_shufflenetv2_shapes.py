"""The real detector on the embedded data set: what ``make demo`` runs."""

_base_ = '../lighthead_shufflenetv2_custom.py'

data_root = 'data/shapes/'
classes = ('circle', 'square', 'triangle', 'star', 'ring', 'cross')
scale = (320, 240)
train_pipeline = [
    dict(type='LoadImageStrict'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
