"""A classifier: a published network, global pooling and a linear layer.

``data_preprocessor`` must match the checkpoint. This one is for weights of
torchvision and mmpretrain. The ShuffleNet authors' weights expect BGR 0-255:
set ``mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False``, and ``style='authors'`` in
``backbone``.
"""

model = dict(
    type='PublishedClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
    ),
)
