"""Figure 1 of the paper: accuracy, speed and complexity.

(a) and (b) plot accuracy over speed, (c) and (d) speed over MFLOPs; (a) and
(c) on a GPU at batch 8, (b) and (d) on one core at batch 1.
"""

from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple

import plotly.graph_objects as go

from ..measure.published import figures, speeds, values
from .claims import BATCHES
from .results import Conditions, Results

# Title and colour of each family, by the prefix of its networks' names. The
# first four are in the paper's figure.
FAMILIES = {
    'shufflenet_v2_': ('ShuffleNet V2', '#e4572e'),
    'mobilenet_v2_': ('MobileNet V2', '#2e86de'),
    'shufflenet_v1_': ('ShuffleNet V1', '#17a589'),
    'xception_': ('Xception', '#8e44ad'),
    'mobilenet_v1_': ('MobileNet V1', '#d4a017'),
    'densenet_': ('DenseNet', '#7f8c8d'),
    'igcv2_': ('IGCV2', '#c0397b'),
    'igcv3_d_': ('IGCV3-D', '#5d6dcb'),
    'condensenet_': ('CondenseNet', '#6b8e23'),
    'nasnet_a_': ('NASNet-A', '#a0522d'),
    'pnasnet_': ('PNASNet', '#00838f'),
    'se_shufflenet_v2_': ('ShuffleNet V2 with SE', '#f39c7d'),
}
PAPER_FAMILIES = 4
UNITS = {'gpu': 'batches of 8 per second', 'arm': 'images per second'}
# Plotly's own ticks on a logarithmic axis would label 20 as "2".
DIGITS = (1, 1.5, 2, 3, 5, 7)
TICKS = [digit * 10**place for place in range(-2, 6) for digit in DIGITS]
SYMBOLS = ('circle', 'square', 'diamond', 'triangle-up', 'star', 'x')


class Chart(NamedTuple):
    """One panel of the figure."""

    name: str
    title: str
    # A trace's ``meta`` holds its device and setting; empty if published.
    figure: go.Figure
    is_measured: bool


def charts(results: Results) -> list[Chart]:
    """The figure's four panels."""
    found = []
    for letter, title, platform, over_flops in (
        ('a', 'Accuracy and speed, GPU', 'gpu', False),
        ('b', 'Accuracy and speed, CPU', 'arm', False),
        ('c', 'Speed and complexity, GPU', 'gpu', True),
        ('d', 'Speed and complexity, CPU', 'arm', True),
    ):
        published = {
            key.row: speed.per_s
            for key, speed in speeds().items()
            if key.table == 'Table 8' and key.platform == platform
        }
        # By machine and setting, at the paper's batch.
        measured: dict[Conditions, dict[str, float]] = {}
        on_gpu = platform == 'gpu'
        for each in results.sound('backbones'):
            if (
                each.row['table'] == 'Table 8'
                and each.row['batch'] == BATCHES['backbones'][on_gpu]
                and each.conditions.on_gpu == on_gpu
            ):
                per_s = measured.setdefault(each.conditions, {})
                per_s[each.key.row] = each.per_s
        figure = _axes(UNITS[platform], over_flops)
        _add_lines(figure, published, over_flops, ('', ''), 'circle-open')
        symbols = cycle(SYMBOLS)
        for where, per_s in measured.items():
            place = where.machine, where.setting
            _add_lines(figure, per_s, over_flops, place, next(symbols))
        name, title = f'figure1{letter}', f'({letter}) {title}'
        found.append(Chart(name, title, figure, bool(measured)))
    return found


def _add_lines(
    figure: go.Figure,
    per_s: Mapping[str, float],
    over_flops: bool,
    place: tuple[str, str],
    symbol: str,
) -> None:
    """Add a line per family; ``place`` is ('', '') for published speeds."""
    source = ', '.join(place) if any(place) else 'published'
    mflops = {
        key.row: value
        for key, quantity, value, *_ in figures()
        if (key.table, quantity) == ('Table 8', 'multiply-adds')
        # A network with smaller images would bend the line of its family.
        and key.input == '224x224'
    }
    errors = values('top-1 error')
    for number, (start, (title, colour)) in enumerate(FAMILIES.items()):
        names = [n for n in per_s if n in mflops and n.startswith(start)]
        if not names:
            continue
        if over_flops:
            points = [(mflops[name], per_s[name], name) for name in names]
        else:
            points = [(per_s[n], round(100 - errors[n], 2), n) for n in names]
        x, y, names = zip(*sorted(points), strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            text=[f'<b>{name}</b><br>{source}' for name in names],
            hovertemplate='%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>',
            name=title,
            legendgroup=title,
            showlegend=title not in {line.name for line in figure.data},
            visible=True if number < PAPER_FAMILIES else 'legendonly',
            mode='lines+markers',
            line=dict(color=colour, dash='solid' if any(place) else 'dot'),
            marker=dict(size=9, symbol=symbol),
            meta=dict(zip(('device', 'setting'), place, strict=True)),
        )


def _axes(unit: str, over_flops: bool) -> go.Figure:
    speed = dict(
        type='log',
        title=unit,
        tickvals=TICKS,
        ticktext=[f'{tick:g}' for tick in TICKS],
    )
    flops = dict(title='MFLOPs')
    accuracy = dict(title='top-1 accuracy, % (paper)')
    return go.Figure(
        layout=dict(
            xaxis=flops if over_flops else speed,
            yaxis=speed if over_flops else accuracy,
            template='plotly_white',
            margin=dict(l=60, r=12, t=12, b=48),
            legend=dict(orientation='h', y=-0.2, font_size=11),
            hoverlabel_align='left',
            height=430,
        )
    )
