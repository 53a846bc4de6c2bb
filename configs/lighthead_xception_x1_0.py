"""Light-Head R-CNN, Xception 1.0x, COCO train+val minus minival.

Paper (Table 7, 140 MFLOPs): 29.0 mmAP. Not trained here.

The light Xception of the Light-Head R-CNN paper. The RPN reads stage3; the
thin map is computed from stage4, the last stage.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        type='Xception',
        widen_factor=1.0,
        out_indices=(1, 2),
        # There are no public weights: --backbone-weights or --from-scratch.
        init_cfg=None,
    ),
    neck=dict(in_channels=(288, 576)),
    rpn_head=dict(in_channels=288),
)
