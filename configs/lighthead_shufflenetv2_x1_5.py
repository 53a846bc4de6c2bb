"""Light-Head R-CNN, ShuffleNet V2 1.5x, COCO train+val minus minival.

Paper (Table 7, 300 MFLOPs): 31.8 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(
            checkpoint='torchvision://shufflenet_v2_x1_5.imagenet1k_v1'
        ),
    ),
    neck=dict(in_channels=(352, 1024)),
    rpn_head=dict(in_channels=352),
)
