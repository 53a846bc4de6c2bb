"""Light-Head R-CNN, ShuffleNet V2 1x, 416x416, COCO.

    python tools/train.py configs/light/lighthead_shufflenetv2_x1_0_416.py
    python tools/test.py configs/light/lighthead_shufflenetv2_x1_0_416.py \
        CKPT --eval bbox

The detector of ``lighthead_shufflenetv2_custom.py`` (stride 16, class-agnostic
boxes) on COCO, with half the channels in RPN, thin map and fc layer, and 100
test proposals instead of 300. On BCCD this saves a fifth of the time and costs
0.007 mAP (docs/decisions.md). Not trained here.
"""

_base_ = '../lighthead_shufflenetv2_custom.py'

image_size_from_data = False

model = dict(
    neck=dict(out_channels=245),
    rpn_head=dict(feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=5),
        bbox_head=dict(in_channels=5, fc_out_channels=1024),
    ),
    test_cfg=dict(rpn=dict(max_per_img=100)),
)

scale = (416, 416)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale

train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
