_base_ = 'pretrain_shufflenetv2_shapes.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=3e-3, weight_decay=0.05)
)
