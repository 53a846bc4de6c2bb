"""The detector on the synthetic data set; ``make demo`` runs this.

    python -m mmdet_shufflenetv2 synthetic data/shapes
    python tools/train.py configs/demo/lighthead_shufflenetv2_shapes.py
    python tools/test.py configs/demo/lighthead_shufflenetv2_shapes.py \
        work_dirs/lighthead_shufflenetv2_shapes/epoch_8.pth --eval bbox
"""

_base_ = '../lighthead_shufflenetv2_custom.py'

data_root = 'data/shapes/'
metainfo = dict(
    classes=('circle', 'square', 'triangle', 'star', 'ring', 'cross')
)
model = dict(
    # Random initial weights, so that the demo needs no download.
    backbone=dict(init_cfg=_base_.scratch_init),
    roi_head=dict(bbox_head=dict(num_classes=6)),
    # With ten objects at most, fewer proposals train as well and faster.
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=300)),
)

image_size_from_data = False
scale = (320, 240)
test_pipeline = _base_.test_pipeline
# The images already vary in size and colour, so they are only flipped.
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline[1].scale = scale

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=8, val_interval=4)
