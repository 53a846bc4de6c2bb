"""Light-Head R-CNN, ShuffleNet V2 1x, 416x416, COCO.

    python tools/train.py configs/light/lighthead_shufflenetv2_x1_0_416.py
    python tools/test.py configs/light/lighthead_shufflenetv2_x1_0_416.py \
        CKPT --eval bbox

The detector of ``lighthead_shufflenetv2_custom.py`` (stride 16, agnostic
boxes) on COCO, with 100 proposals where that one tests 300: on BCCD they find
as much (V2 0.5x: 0.554 mAP beside 0.553) in less time. Not trained here.
"""

_base_ = '../lighthead_shufflenetv2_custom.py'

image_size_from_data = False

model = dict(test_cfg=dict(rpn=dict(max_per_img=100)))

scale = (416, 416)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale

train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=16, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
