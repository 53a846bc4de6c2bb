"""Light-Head R-CNN, ShuffleNet V1 0.5x, COCO train+val minus minival.

Paper (Table 7, 40 MFLOPs): 20.9 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv1_x1_0.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        style='paper',
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(240, 480)),
    rpn_head=dict(in_channels=240),
)
