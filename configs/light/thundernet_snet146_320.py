"""ThunderNet, SNet146, 320x320, COCO train+val minus minival.

    python tools/train.py configs/light/thundernet_snet146_320.py
    python tools/test.py configs/light/thundernet_snet146_320.py CKPT \
        --eval bbox

Paper (arXiv 1903.11752): 473 MFLOPs, 23.6 mmAP. Not trained here.
"""

_base_ = [
    '../_base_/models/thundernet.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/adamw_30e.py',
    '../_base_/default_runtime.py',
]

# Squashed, not padded, because padding would enter the global context.
scale = (320, 320)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].update(scale=scale, keep_ratio=False)
test_pipeline[1].update(scale=scale, keep_ratio=False)

train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
