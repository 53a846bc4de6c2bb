"""Light-Head R-CNN, ShuffleNet V1 1x (3 groups), on your own data set.

    python tools/train.py configs/lighthead_shufflenetv1_custom.py \
        --data-root DIR
"""

_base_ = './lighthead_shufflenetv2_custom.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV1',
        groups=3,
        out_indices=(1, 2),
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        style='mmpretrain',
        init_cfg=[
            *_base_.scratch_init,
            dict(
                type='Pretrained',
                checkpoint='https://download.openmmlab.com/mmclassification/'
                'v0/shufflenet_v1/shufflenet_v1_batch1024_imagenet_20200804-'
                '5d6cec73.pth',
            ),
        ],
    ),
    neck=dict(in_channels=(480, 960)),
    rpn_head=dict(in_channels=480),
)
