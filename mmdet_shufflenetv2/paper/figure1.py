"""Figure 1 of the paper: accuracy and complexity beside speed.

(a) and (b) are accuracy over speed, (c) and (d) speed over MFLOPs; (a) and (c)
on a GPU at batch 8, (b) and (d) on one core at batch 1.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from ..measure import backbones
from ..measure.session import OK
from .comparison import setting_name
from .evidence import PLATFORMS, device_name
from .published import ClassificationResult, classification_results
from .results import Row

# How the names of a family's networks begin, its title, and its colour. The
# first four are those of the paper's figure.
FAMILIES = {
    'shufflenet_v2': ('ShuffleNet V2', '#e4572e'),
    'mobilenet_v2': ('MobileNet V2', '#2e86de'),
    'shufflenet_v1': ('ShuffleNet V1', '#17a589'),
    'xception': ('Xception', '#8e44ad'),
    'mobilenet_v1': ('MobileNet V1', '#d4a017'),
    'densenet': ('DenseNet', '#7f8c8d'),
    'igcv2': ('IGCV2', '#c0397b'),
    'igcv3_d': ('IGCV3-D', '#5d6dcb'),
    'condensenet': ('CondenseNet', '#6b8e23'),
    'nasnet_a': ('NASNet-A', '#a0522d'),
    'pnasnet': ('PNASNet', '#00838f'),
    'se_shufflenet_v2': ('ShuffleNet V2 with SE', '#f39c7d'),
}
OF_THE_PAPER = 4
PAPER = 'paper'
UNITS = {'gpu': 'batches of 8 per second', 'arm': 'images per second'}
# A logarithmic axis names 20 as the 2 behind 10, if one lets it.
DIGITS = (1, 1.5, 2, 3, 5, 7)
TICKS = [digit * 10**place for place in range(-2, 6) for digit in DIGITS]
TICK_TEXTS = [f'{tick:g}' for tick in TICKS]
SYMBOLS = ('circle', 'square', 'diamond', 'triangle-up', 'star', 'x')


@dataclass(frozen=True)
class Chart:
    """A panel of the figure.

    Attributes:
        name: short, for links.
        title: what stands above it.
        figure: what plotly draws. A trace's ``meta`` says its family, and
            the device and setting it was measured on (`PAPER` for both, of
            what was published).
        measured: whether anything of it was measured here.
    """

    name: str
    title: str
    figure: go.Figure
    measured: bool


@dataclass(frozen=True)
class _Speeds:
    """Speeds of networks on one device and setting."""

    device: str
    setting: str
    per_s: Mapping[str, float]


def family_of(name: str) -> str | None:
    """The key of `FAMILIES` that a network belongs to."""
    return next((f for f in FAMILIES if name.startswith(f'{f}_')), None)


def charts(rows: Iterable[Row]) -> list[Chart]:
    """The figure's four panels.

    Args:
        rows: of ``tools/benchmark.py backbones``.
    """
    rows = list(rows)
    found = []
    for title, over_flops in (
        ('Accuracy and speed', False),
        ('Speed and complexity', True),
    ):
        for platform, device in (('gpu', 'GPU'), ('arm', 'CPU')):
            sources = _measured(rows, platform)
            letter = 'abcd'[2 * over_flops + (platform == 'arm')]
            figure = _panel([_published(platform), *sources], over_flops)
            _label(figure, UNITS[platform], over_flops)
            found.append(
                Chart(
                    f'figure1{letter}',
                    f'({letter}) {title}, {device}',
                    figure,
                    bool(sources),
                )
            )
    return found


def _published(platform: str) -> _Speeds:
    on_gpu = platform == 'gpu'
    speeds = {}
    for name, result in classification_results().items():
        per_s = result.gpu_batches_per_s if on_gpu else result.arm_images_per_s
        if per_s:
            speeds[name] = per_s
    return _Speeds(PAPER, PAPER, speeds)


def _measured(rows: Sequence[Row], platform: str) -> list[_Speeds]:
    """A source for each device and setting, at the paper's batch."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        on_gpu = row['device'] != 'cpu'
        if (
            row['status'] != OK
            or row['table'] != 'Table 8'
            or row['batch'] != PLATFORMS[platform]
            or on_gpu != (platform == 'gpu')
            or backbones.column_of(row['network']) == backbones.LARGE
        ):
            continue
        speeds = found.setdefault((device_name(row), setting_name(row)), {})
        speeds[row['network']] = 1e3 / float(row['median_ms'])
    return [_Speeds(*place, speeds) for place, speeds in found.items()]


def _panel(sources: Sequence[_Speeds], over_flops: bool) -> go.Figure:
    figure = go.Figure()
    for place, source in enumerate(sources):
        for family, (title, colour) in FAMILIES.items():
            points = _points(source, family, over_flops)
            if not points:
                continue
            of_paper = source.device == PAPER
            figure.add_scatter(
                x=[point[0] for point in points],
                y=[point[1] for point in points],
                text=[point[2] for point in points],
                name=title,
                mode='lines+markers',
                hovertemplate='%{text}<extra></extra>',
                line=dict(color=colour, dash='dot' if of_paper else 'solid'),
                marker=dict(
                    size=9,
                    color=colour,
                    symbol='circle-open'
                    if of_paper
                    else SYMBOLS[(place - 1) % len(SYMBOLS)],
                ),
                meta=dict(
                    family=family,
                    device=source.device,
                    setting=source.setting,
                ),
            )
    return figure


def _points(
    source: _Speeds, family: str, over_flops: bool
) -> list[tuple[float, float, str]]:
    """x, y and what is told of a network, by complexity.

    A network of smaller images would bend the line of its family.
    """
    found = []
    for name, result in classification_results().items():
        if name not in source.per_s or family_of(name) != family:
            continue
        if result.input_size != backbones.OWN_SIZE[0]:
            continue
        speed = source.per_s[name]
        text = _hover(name, result, speed, source)
        if over_flops:
            found.append((result.mflops, speed, text))
        else:
            found.append((speed, round(100 - result.top1_err, 2), text))
    return sorted(found, key=lambda point: point[0])


def _hover(
    name: str, result: ClassificationResult, speed: float, source: _Speeds
) -> str:
    where = source.device
    if source.setting != PAPER:
        where = f'{source.device}, {source.setting}'
    # plotly reads texts as HTML, and these may be from anybody's file.
    return (
        f'<b>{html.escape(name)}</b><br>{speed:.4g} per second<br>'
        f'{result.mflops:g} MFLOPs, top-1 {100 - result.top1_err:.1f} % '
        f'(paper)<br>{html.escape(where)}'
    )


def _label(figure: go.Figure, unit: str, over_flops: bool) -> None:
    speed = dict(type='log', title=unit, tickvals=TICKS, ticktext=TICK_TEXTS)
    if over_flops:
        figure.update_xaxes(title='MFLOPs')
        figure.update_yaxes(**speed)
    else:
        figure.update_xaxes(**speed)
        figure.update_yaxes(title='top-1 accuracy, % (paper)')
    figure.update_layout(
        template='none',
        showlegend=False,
        margin=dict(l=60, r=12, t=12, b=48),
        hoverlabel=dict(align='left'),
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
    )
