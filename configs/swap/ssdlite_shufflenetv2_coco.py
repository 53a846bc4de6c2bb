"""mmdet's SSDLite with SE-ShuffleNet V2 1x. Not trained here.

Levels of stride 16 and 32 feed the head, as MobileNet V2's do in the base.
"""

_base_ = 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'
custom_imports = dict(imports=['mmdet_shufflenetv2'])

model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=1.0,
        with_se=True,
        out_indices=(1, 3),
    ),
    neck=dict(
        in_channels=(232, 1024),
        out_channels=(232, 1024, 512, 256, 256, 128),
    ),
    bbox_head=dict(in_channels=(232, 1024, 512, 256, 256, 128)),
)
