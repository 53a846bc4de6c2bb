"""The demo's detector, from a backbone that classified drawn shapes.

    python tools/train.py \
        configs/demo/lighthead_shufflenetv2_shapes_pretrained.py
"""

_base_ = 'lighthead_shufflenetv2_shapes.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='work_dirs/pretrain_shufflenetv2_shapes/iter_2000.pth',
            prefix='backbone.',
        )
    )
)
