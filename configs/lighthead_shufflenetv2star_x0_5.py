"""Light-Head R-CNN, ShuffleNet V2* 0.5x: the enlarged receptive field.

Paper (Table 7, 40 MFLOPs): 23.7 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2_x0_5.py'

model = dict(backbone=dict(receptive_field='enlarged'))
