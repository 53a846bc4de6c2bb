"""Light-Head R-CNN, MobileNet V2 0.15x, COCO train+val minus minival.

Paper (Table 7, 40 MFLOPs): 20.7 mmAP. Not trained here.

Table 7 states no widths; this one has its FLOPs at 224x224.
"""

_base_ = 'lighthead_mobilenetv2_x1_0.py'

model = dict(
    backbone=dict(
        widen_factor=0.15,
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(15, 1280)),
    rpn_head=dict(in_channels=15),
)
