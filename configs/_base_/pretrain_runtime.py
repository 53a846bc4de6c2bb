"""Settings shared by classification runs: imports, hooks, logging."""

_base_ = 'default_runtime.py'

custom_imports = dict(
    imports=['mmdet_shufflenetv2.engine.published_classifier'],
    allow_failed_imports=False,
)
default_scope = 'mmpretrain'

default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(
        by_epoch=False,
        interval=10_000,
        save_best='error/top1',
        rule='less',
    ),
    visualization=dict(_delete_=True, type='VisualizationHook'),
)
custom_hooks = [
    dict(type='mmdet.ThroughputHook'),
    dict(type='mmdet.CurvesHook'),
]
visualizer = dict(type='UniversalVisualizer')
log_processor = dict(by_epoch=False)
