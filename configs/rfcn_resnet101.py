"""R-FCN, ResNet-101, COCO train+val minus minival (arXiv 1605.06409).

    python tools/train.py configs/rfcn_resnet101.py

The last stage is dilated to keep stride 16, and a 1x1 convolution reduces its
2048 channels to 1024. The paper reports 29.9 mmAP on test-dev with multi-scale
training. Not trained here.
"""

_base_ = './rfcn_shufflenetv2.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=101,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    neck=dict(in_channels=(1024, 2048), mid_channels=1024),
    rpn_head=dict(in_channels=1024, feat_channels=512),
)
