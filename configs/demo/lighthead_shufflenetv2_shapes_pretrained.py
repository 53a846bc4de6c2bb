"""The demo's detector, from a backbone that classified synthetic shapes.

    python tools/train.py \
        configs/demo/lighthead_shufflenetv2_shapes_pretrained.py

Nothing but ``init_cfg`` differs from the demo. With ``--seed 0 --epochs 16``
on one CPU core beside other work, 36 minutes: 0.646 mAP, 0.894 AP50.
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
