"""Light-Head R-CNN, ShuffleNet V2 1x, COCO train+val minus minival.

    python tools/train.py configs/lighthead_shufflenetv2.py
    python tools/test.py configs/lighthead_shufflenetv2.py CKPT --eval bbox

Paper (Table 7, 140 MFLOPs): 29.0 mmAP. Not trained here. Follows the authors'
protocol, documented in ``_base_/lighthead_protocol.py``.
"""

_base_ = '_base_/lighthead_protocol.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='torchvision://shufflenet_v2_x1_0.imagenet1k_v1',
        )
    )
)
