"""Light-Head R-CNN, ShuffleNet V1 2.0x, COCO train+val minus minival.

Paper (Table 7, 500 MFLOPs): 32.9 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv1_x1_0.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        style='paper',
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(960, 1920)),
    rpn_head=dict(in_channels=960),
)
