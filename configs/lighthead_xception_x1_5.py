"""Light-Head R-CNN, Xception 1.5x, COCO train+val minus minival.

Paper (Table 7, 300 MFLOPs): 31.3 mmAP. Not trained here.
"""

_base_ = 'lighthead_xception_x1_0.py'

model = dict(
    backbone=dict(widen_factor=1.5),
    neck=dict(in_channels=(432, 864)),
    rpn_head=dict(in_channels=432),
)
