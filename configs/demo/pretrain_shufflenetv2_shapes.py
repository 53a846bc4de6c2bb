"""Pretrain the demo's backbone by classifying synthetic shapes.

    python -m mmdet_shufflenetv2 synthetic data/shape_crops --crops
    python tools/train.py configs/demo/pretrain_shufflenetv2_shapes.py
    python tools/test.py configs/demo/pretrain_shufflenetv2_shapes.py \
        work_dirs/pretrain_shufflenetv2_shapes/iter_2000.pth --eval error
    python tools/train.py \
        configs/demo/lighthead_shufflenetv2_shapes_pretrained.py

``--seed 0`` gave 26.0 % top-1 and 0.8 % top-5 error in 15 minutes, on one CPU
core of a busy machine.
"""

_base_ = ['../pretrain.py', '../_base_/scratch_init.py']

model = dict(
    network='shufflenet_v2_x1_0',
    backbone=dict(init_cfg=_base_.scratch_init),
    head=dict(num_classes=6),
)

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
# No colour jitter: the class depends on colour as much as on shape.
del train_pipeline[2]
train_pipeline[1].update(scale=64, crop_ratio_range=(0.5, 1.0))
test_pipeline[1].scale = 64
test_pipeline[2].crop_size = 64
shapes = dict(
    type='CustomDataset',
    data_root='data/shape_crops',
    metainfo=dict(
        classes=('circle', 'cross', 'ring', 'square', 'star', 'triangle')
    ),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    dataset=dict(**shapes, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=2, dataset=dict(**shapes, pipeline=test_pipeline)
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=2000, val_interval=500)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=3e-3, weight_decay=0.05)
)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500))
