"""Light-Head R-CNN, Xception 0.5x, COCO train+val minus minival.

Paper (Table 7, 40 MFLOPs): 21.9 mmAP. Not trained here.
"""

_base_ = 'lighthead_xception_x1_0.py'

model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(144, 288)),
    rpn_head=dict(in_channels=144),
)
