"""The transforms of each ``--augment`` level, between loading and packing."""

scale = (480, 360)
flip = dict(type='RandomFlip', prob=0.5)
augmentation = dict(
    none=[dict(type='Resize', scale=scale, keep_ratio=True)],
    light=[
        dict(
            type='RandomResize',
            scale=scale,
            keep_ratio=True,
            ratio_range=(0.75, 1.25),
        ),
        flip,
    ],
    strong=[
        dict(type='MinIoURandomCrop'),
        dict(
            type='RandomResize',
            scale=scale,
            keep_ratio=True,
            ratio_range=(0.5, 1.5),
        ),
        flip,
        dict(type='PhotoMetricDistortion'),
    ],
)
