_base_ = 'pretrain_shufflenetv2_shapes.py'
model = dict(
    backbone=dict(
        init_cfg=[
            dict(
                type='Kaiming',
                layer='Conv2d',
                a=5**0.5,
                mode='fan_in',
                nonlinearity='leaky_relu',
            ),
            dict(type='Constant', layer='_BatchNorm', val=1, bias=0),
        ]
    )
)
