"""Light-Head R-CNN, ShuffleNet V2 1x, 320x320, COCO.

    python tools/train.py configs/light/lighthead_shufflenetv2_x1_0_320.py
    python tools/test.py configs/light/lighthead_shufflenetv2_x1_0_320.py \
        CKPT --eval bbox

100 proposals, as at 416. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2_x1_0_416.py'

scale = (320, 320)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
