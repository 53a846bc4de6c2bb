"""Light-Head R-CNN, ShuffleNet V2* 1.5x: the enlarged receptive field.

Paper (Table 7, 300 MFLOPs): 32.2 mmAP. Not trained here.
"""

_base_ = 'lighthead_shufflenetv2_x1_5.py'

model = dict(backbone=dict(receptive_field='enlarged'))
