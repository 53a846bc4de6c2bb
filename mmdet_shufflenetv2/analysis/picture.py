"""The analysis as one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from ..errors import UserError

try:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise UserError(
        f'the picture needs {error.name}, which is not installed: '
        'pip install matplotlib'
    ) from error

from . import operations
from .advice import advise
from .operations import BETWEEN
from .receptive_field import effective_size

if TYPE_CHECKING:
    from .analysis import Analysis

COLOURS = dict(
    zip(
        (*operations.KINDS, BETWEEN),
        (
            *('#4477aa', '#66ccee', '#ee6677', '#aa3377', '#ccbb44'),
            *('#228833', '#ee8866', '#bbbbbb', '#777777'),
        ),
        strict=True,
    )
)
# More would be too small to see.
_LINE = 90
_MOST_LEVELS, _MOST_PARTS, _MOST_ADVICE = 6, 14, 8


def draw(analysis: Analysis, path: Path) -> None:
    """Draw where time goes, the roofline, advice and receptive fields."""
    figure = Figure(figsize=(15, 12), layout='constrained')
    FigureCanvasAgg(figure)
    shapes = ', '.join(' x '.join(map(str, s)) for s in analysis.inputs)
    figure.suptitle(
        f'{analysis.name}, {shapes}, '
        f'{analysis.environment["device"]}, '
        f'threads {analysis.environment["threads"]}: {analysis.ms:.3g} ms a '
        'pass'
    )
    rows = figure.add_gridspec(3, 1, height_ratios=(1, 1.1, 0.75))
    first, second = (rows[i].subgridspec(1, 2) for i in range(2))
    panels: Sequence[tuple[object, Callable[[Axes, Analysis], None]]] = (
        (first[0], _kinds),
        (first[1], _parts),
        (second[0], _roofline),
        (second[1], _advice),
    )
    for place, panel in panels:
        panel(figure.add_subplot(place), analysis)
    levels = list(analysis.gradients)[-_MOST_LEVELS:]
    if levels:
        third = rows[2].subgridspec(1, _MOST_LEVELS)
        for column, level in enumerate(levels):
            _field(figure.add_subplot(third[column]), analysis, level)
    figure.savefig(path, dpi=100)


def _kinds(axes: Axes, analysis: Analysis) -> None:
    axes.set_title("Where the time goes (the paper's Figure 2)")
    kinds = list(analysis.kinds_ms)[::-1]
    values = [analysis.kinds_ms[kind] for kind in kinds]
    bars = axes.barh(kinds, values, color=[COLOURS[kind] for kind in kinds])
    axes.bar_label(
        bars, [f'{value / analysis.ms:.0%}' for value in values], padding=3
    )
    axes.set_xlabel('ms a pass')
    axes.margins(x=0.1)


def _parts(axes: Axes, analysis: Analysis) -> None:
    axes.set_title('By part of the network')
    parts = sorted(
        analysis.parts_ms, key=lambda p: sum(analysis.parts_ms[p].values())
    )[-_MOST_PARTS:]
    # The order in which they run, from above.
    parts = [part for part in analysis.parts_ms if part in parts][::-1]
    left = np.zeros(len(parts))
    for kind in operations.KINDS:
        values = np.array(
            [analysis.parts_ms[part].get(kind, 0) for part in parts]
        )
        if values.any():
            axes.barh(
                parts, values, left=left, color=COLOURS[kind], label=kind
            )
            left += values
    axes.set_xlabel('ms a pass')
    if left.any():
        axes.set_xlim(0, 1.05 * left.max())
        axes.legend(fontsize='small')


def _roofline(axes: Axes, analysis: Analysis) -> None:
    axes.set_title('Roofline: a circle is a layer, its area its time')
    peaks = analysis.peaks
    for kind in operations.KINDS:
        chosen = [
            layer
            for layer in analysis.layers
            if layer.kind == kind and layer.flops and layer.bytes
        ]
        if chosen:
            axes.scatter(
                [layer.flops / layer.bytes for layer in chosen],
                [layer.per_ms(layer.flops) / 1e6 for layer in chosen],
                [10 + 3000 * layer.ms / analysis.ms for layer in chosen],
                color=COLOURS[kind],
                alpha=0.5,
                label=kind,
                linewidths=0,
            )
    cache = max(rate for _, rate in peaks.copies)
    for rate, style, name in (
        (peaks.memory_gb_per_s, '-', 'memory'),
        (cache, '--', 'cache'),
    ):
        # From the slope's foot to the corner to the far end of the roof.
        intensity = (0.1, peaks.gmacs_per_s / rate, 1e3)
        axes.plot(
            intensity,
            [min(rate * each, peaks.gmacs_per_s) for each in intensity],
            f'k{style}',
            linewidth=1,
            label=f'{name}, {rate:.0f} GB/s',
        )
    axes.set(
        xscale='log',
        yscale='log',
        xlabel='multiply-adds per byte moved',
        ylabel='GMAC/s (multiply-adds)',
    )
    legend = axes.legend(fontsize='small')
    for handle in legend.legend_handles:
        if hasattr(handle, 'set_sizes'):
            handle.set_sizes([30])


def _advice(axes: Axes, analysis: Analysis) -> None:
    axes.set_title('What would help (gains overlap)')
    advice = advise(analysis)[:_MOST_ADVICE][::-1]
    places = range(len(advice))
    axes.barh(places, [each.ms for each in advice], color='#ccddee')
    for place, each in zip(places, advice, strict=True):
        lines = wrap(each.text, _LINE, max_lines=2, placeholder=' ...')
        text = '\n'.join(lines)
        axes.annotate(
            text,
            (0, place),
            (4, 0),
            textcoords='offset points',
            va='center',
            fontsize='small',
        )
    axes.set_yticks([])
    axes.set_xlabel('ms a pass')


def _field(axes: Axes, analysis: Analysis, level: str) -> None:
    gradients = analysis.gradients[level].numpy()
    # Square roots show the weak surroundings, too.
    axes.imshow(np.sqrt(gradients), cmap='magma', vmin=0, vmax=1)
    height, width = gradients.shape
    size = effective_size(analysis.gradients[level])
    field = analysis.fields.get(level)
    title = f'{level} sees {size:.0f} px (effective)'
    if field is not None:
        over = 'over ' if field.is_larger else ''
        title += f'\nof {over}{field.size[0]:.4g} px (theoretical, box)'
        corner = (
            (width - field.size[1]) / 2,
            (height - field.size[0]) / 2,
        )
        axes.add_patch(
            Rectangle(
                corner, field.size[1], field.size[0], fill=False, color='w'
            )
        )
    axes.set_title(title, fontsize='small')
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
