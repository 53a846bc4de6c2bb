"""ThunderNet, SNet49, 320x320, COCO train+val minus minival.

    python tools/train.py configs/light/thundernet_snet49_320.py
    python tools/test.py configs/light/thundernet_snet49_320.py CKPT \
        --eval bbox

Paper (arXiv 1903.11752): 262 MFLOPs, 19.1 mmAP. Not trained here.
"""

_base_ = 'thundernet_snet146_320.py'

model = dict(backbone=dict(depth=49), neck=dict(in_channels=(120, 512)))
