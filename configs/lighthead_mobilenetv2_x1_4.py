"""Light-Head R-CNN, MobileNet V2 1.4x, COCO train+val minus minival.

Paper (Table 7, 500 MFLOPs): 30.6 mmAP. Not trained here.

Table 7 states no widths; this one has its FLOPs at 224x224.
"""

_base_ = 'lighthead_mobilenetv2_x1_0.py'

model = dict(
    backbone=dict(
        widen_factor=1.4,
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(136, 1792)),
    rpn_head=dict(in_channels=136),
)
