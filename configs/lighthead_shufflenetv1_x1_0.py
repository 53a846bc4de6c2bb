"""Light-Head R-CNN, ShuffleNet V1 1.0x, COCO train+val minus minival.

Paper (Table 7, 140 MFLOPs): 27.0 mmAP. Not trained here.

3 groups. The RPN reads stage3; the thin map is computed from stage4, the last
stage.
"""

_base_ = 'lighthead_shufflenetv2.py'

model = dict(
    backbone=dict(
        type='ShuffleNetV1',
        groups=3,
        widen_factor=1.0,
        out_indices=(1, 2),
        # The order of channels in the weights.
        style='mmpretrain',
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmclassification/v0/'
            'shufflenet_v1/shufflenet_v1_batch1024_imagenet_20200804-'
            '5d6cec73.pth'
        ),
    ),
    neck=dict(in_channels=(480, 960)),
    rpn_head=dict(in_channels=480),
)
