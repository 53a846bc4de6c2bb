"""Options that make a real run take seconds."""

CONFIG = 'configs/lighthead_shufflenetv2_custom.py'
# Small enough for seconds, real in every part.
TINY = (
    'model.backbone.init_cfg=None',
    'model.backbone.widen_factor=0.5',
    'model.neck.in_channels=(96,192)',
    'model.rpn_head.in_channels=96',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'default_hooks.logger.interval=1',
)
