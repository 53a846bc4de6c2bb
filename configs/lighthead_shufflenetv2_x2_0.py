"""Light-Head R-CNN, ShuffleNet V2 2.0x, COCO train+val minus minival.

Paper (Table 7, 500 MFLOPs): 33.3 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(
            checkpoint='torchvision://shufflenet_v2_x2_0.imagenet1k_v1'
        ),
    ),
    neck=dict(in_channels=(488, 2048)),
    rpn_head=dict(in_channels=488),
)
