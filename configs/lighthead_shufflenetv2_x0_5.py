"""Light-Head R-CNN, ShuffleNet V2 0.5x, COCO train+val minus minival.

Paper (Table 7, 40 MFLOPs): 22.5 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(
            checkpoint='torchvision://shufflenet_v2_x0_5.imagenet1k_v1'
        ),
    ),
    neck=dict(in_channels=(96, 1024)),
    rpn_head=dict(in_channels=96),
)
