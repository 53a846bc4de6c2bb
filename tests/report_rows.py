"""Rows of results, on a CPU and on a GPU that nobody has."""

CPU = dict(device='cpu', cpu='Core X', threads='1', clock='wall')
GPU = dict(device='Card Y', cpu='Core X', threads='1', clock='events')
COMMON = dict(
    batch='1',
    median_ms='2.0',
    p10_ms='1.9',
    p90_ms='2.1',
    status='ok',
    precision='fp32',
    layout='channels_last',
    mode='eager',
    commit='abc',
    date='2026-01-01',
)


def g1(row, ratio, scale='x1', **changes):
    """A row of Table 1; nine of ten rounds are within a tenth of it."""
    return dict(
        guideline='G1',
        platform='arm',
        scale=scale,
        row=row,
        channels='9-108' if row == '1:12' else '32-32',
        time_ratio=str(ratio),
        time_ratio_p10=str(round(0.9 * ratio, 3)),
        time_ratio_p90=str(round(1.1 * ratio, 3)),
        memory_access_ratio='1.8' if row == '1:12' else '1.0',
        paper_per_s='57.6',
        paper_time_ratio='1.323',
        doubt='',
        **changes,
    )


def network(name, ratio, column='500M', **changes):
    """A row of Table 8, likewise."""
    return dict(
        table='Table 8',
        column=column,
        network=name,
        input='224x224',
        speed_ratio=str(ratio),
        speed_ratio_p10=str(round(0.9 * ratio, 3)),
        speed_ratio_p90=str(round(1.1 * ratio, 3)),
        mode='folded',
        doubt='',
        **changes,
    )
