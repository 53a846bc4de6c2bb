"""Light-Head R-CNN, Xception 2.0x, COCO train+val minus minival.

Paper (Table 7, 500 MFLOPs): 32.9 mmAP. Not trained here.
"""

_base_ = 'lighthead_xception_x1_0.py'

model = dict(
    backbone=dict(widen_factor=2.0),
    neck=dict(in_channels=(576, 1152)),
    rpn_head=dict(in_channels=576),
)
