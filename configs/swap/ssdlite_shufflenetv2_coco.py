"""mmdet's SSDLite 320 with ShuffleNet V2 1x. Not trained here."""

_base_ = [
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    '../_base_/swap/shufflenetv2.py',
]

channels = (232, 1024, 512, 256, 256, 128)
model = dict(
    backbone=dict(
        _delete_=True, **{**_base_.shufflenetv2, 'out_indices': (1, 3)}
    ),
    neck=dict(in_channels=(232, 1024), out_channels=channels),
    bbox_head=dict(in_channels=channels),
)

# mmdet's schedule, scaled to the length of the run.
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='CosineAnnealingLR', by_epoch=True, eta_min=0),
]
