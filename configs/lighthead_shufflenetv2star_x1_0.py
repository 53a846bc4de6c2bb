"""Light-Head R-CNN, ShuffleNet V2* 1.0x: the enlarged receptive field.

Paper (Table 7, 140 MFLOPs): 29.6 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(backbone=dict(receptive_field='enlarged'))
