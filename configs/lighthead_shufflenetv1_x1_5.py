"""Light-Head R-CNN, ShuffleNet V1 1.5x, COCO train+val minus minival.

Paper (Table 7, 300 MFLOPs): 29.9 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv1_x1_0.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        style='paper',
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(720, 1440)),
    rpn_head=dict(in_channels=720),
)
