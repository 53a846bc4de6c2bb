"""Light-Head R-CNN, ShuffleNet V2* 1x, on your own data set.

    python tools/train.py configs/lighthead_shufflenetv2star_custom.py \
        --data-root DIR
"""

_base_ = './lighthead_shufflenetv2_custom.py'

model = dict(backbone=dict(receptive_field='enlarged'))
