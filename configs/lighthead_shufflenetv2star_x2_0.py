"""Light-Head R-CNN, ShuffleNet V2* 2.0x: the enlarged receptive field.

Paper (Table 7, 500 MFLOPs): 34.2 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2_x2_0.py'

model = dict(backbone=dict(receptive_field='enlarged'))
