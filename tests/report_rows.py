"""Rows of results, on a CPU and on a GPU that nobody has."""

CPU = dict(device='cpu', cpu='Core X', threads='1', clock='wall')
GPU = dict(device='Card Y', cpu='Core X', threads='1', clock='events')
COMMON = dict(
    batch='1',
    median_ms='2.0',
    p10_ms='1.9',
    p90_ms='2.1',
    warning='',
    status='ok',
    precision='fp32',
    layout='channels_last',
    mode='eager',
    torch='2.14.1+cpu',
    cores='4',
    python='3.11.7',
    commit='abc',
    date='2026-01-01',
)


def _ratio(name, value):
    """A ratio; nine of ten rounds are within a tenth of it."""
    return {
        name: str(value),
        f'{name}_p10': str(round(0.9 * value, 3)),
        f'{name}_p90': str(round(1.1 * value, 3)),
    }


def g1(row, ratio, scale='x1', **changes):
    """A row of Table 1."""
    return dict(
        guideline='G1',
        platform='arm',
        scale=scale,
        row=row,
        memory_access_ratio='1.8' if row == '1:12' else '1.0',
        **_ratio('time_ratio', ratio),
    ) | dict(changes)


def network(name, ratio, column='500M', **changes):
    """A row of Table 8."""
    return dict(
        table='Table 8',
        column=column,
        network=name,
        input='224x224',
        mode='folded',
        **_ratio('speed_ratio', ratio),
    ) | dict(changes)


def detector(config, ratio, column='140M', **changes):
    """A row of Table 7."""
    return dict(
        config=config,
        column=column,
        part='network',
        input='600x400',
        batch='4',
        images_per_s='2.5',
        **_ratio('speed_ratio', ratio),
    ) | dict(changes)


def op(name, ratio, **changes):
    """A row of the ops."""
    return dict(
        op=name,
        map='1x490x25x38',
        rois='1000',
        map_layout='as torchvision',
        layout='contiguous',
        passes='forward',
        torchvision_ms='4.0',
        **_ratio('times_faster', ratio),
    ) | dict(changes)
