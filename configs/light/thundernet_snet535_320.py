"""ThunderNet, SNet535, 320x320, COCO train+val minus minival.

    python tools/train.py configs/light/thundernet_snet535_320.py
    python tools/test.py configs/light/thundernet_snet535_320.py CKPT \
        --eval bbox

Paper (arXiv 1903.11752): 1300 MFLOPs, 28.0 mmAP. Not trained here.
"""

_base_ = 'thundernet_snet146_320.py'

model = dict(backbone=dict(depth=535), neck=dict(in_channels=(496, 992)))
