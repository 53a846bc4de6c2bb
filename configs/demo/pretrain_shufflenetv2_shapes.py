"""Classification of drawn shapes, to start the demo's detector from.

    python -m mmdet_shufflenetv2.datasets.shape_crops data/shape_crops
    python tools/train.py configs/demo/pretrain_shufflenetv2_shapes.py
    python tools/test.py configs/demo/pretrain_shufflenetv2_shapes.py \
        work_dirs/pretrain_shufflenetv2_shapes/iter_600.pth --eval error
    python tools/train.py \
        configs/demo/lighthead_shufflenetv2_shapes_pretrained.py
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='shufflenet_v2_x1_0', head=dict(num_classes=6))

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[1].scale = 96
test_pipeline[1].scale = 96
test_pipeline[2].crop_size = 96
shapes = dict(
    type='CustomDataset',
    data_root='data/shape_crops',
    metainfo=dict(
        classes=('circle', 'cross', 'ring', 'square', 'star', 'triangle')
    ),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(**shapes, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(**shapes, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = dict(end=max_iters + 1)
optim_wrapper = dict(optimizer=dict(lr=0.1))
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
