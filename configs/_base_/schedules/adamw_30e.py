"""AdamW with cosine decay over 30 epochs, for training from scratch."""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    # 50 iterations of warm-up; less in a short run.
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        share=(0.0, 0.2),
        longest=50,
        scheduler=dict(type='LinearLR', start_factor=0.01),
    ),
    # Covers the whole run, whatever its length.
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=4)
