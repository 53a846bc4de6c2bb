"""Light-Head R-CNN, MobileNet V2 1.0x, COCO train+val minus minival.

Paper (Table 7, 300 MFLOPs): 30.0 mmAP. Not trained here.

Table 7 states no widths; 0.15, 0.6, 1.0 and 1.4 have its FLOPs at 224x224.
The RPN reads layer5, the last one at stride 16. The thin map is computed from
conv2, the last 1x1 convolution.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        type='StagedMobileNetV2',
        widen_factor=1.0,
        out_indices=(4, 7),
        init_cfg=dict(checkpoint='torchvision://mobilenet_v2'),
    ),
    neck=dict(in_channels=(96, 1280)),
    rpn_head=dict(in_channels=96),
)
