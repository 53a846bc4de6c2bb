"""Draw an analysis as one picture."""

from __future__ import annotations

import os
from textwrap import wrap
from typing import TYPE_CHECKING

from ..errors import UserError

try:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise UserError(
        f'the picture needs {error.name}: pip install matplotlib'
    ) from error

from .operations import BETWEEN, KINDS
from .receptive_field import effective_size

if TYPE_CHECKING:
    from .analysis import Analysis

_TABLEAU = (
    *('#4477aa', '#66ccee', '#ee6677', '#aa3377', '#ccbb44'),
    *('#228833', '#ee8866', '#bbbbbb', '#777777'),
)
COLOURS = dict(zip((*KINDS, BETWEEN), _TABLEAU, strict=True))
# More than this would be too small to read.
_MOST_LEVELS, _MOST_PARTS, _MOST_ADVICE = 6, 14, 8


def draw(found: Analysis, path: str | os.PathLike) -> None:
    """Draw where time goes, the roofline, advice and receptive fields."""
    figure = Figure(figsize=(15, 12), layout='constrained')
    where = found.environment
    shapes = ', '.join(' x '.join(map(str, s)) for s in found.inputs)
    figure.suptitle(
        f'{found.name}, {shapes}, {where["device"]}, threads '
        f'{where["threads"]}: {found.ms:.3g} ms per pass'
    )
    grid = figure.add_gridspec(3, 6, height_ratios=(1, 1.1, 0.75))
    for index, panel in enumerate((_kinds, _parts, _roofline, _advice)):
        column = 3 * (index % 2)
        panel(figure.add_subplot(grid[index // 2, column : column + 3]), found)
    for column, level in enumerate(list(found.gradients)[-_MOST_LEVELS:]):
        _field(figure.add_subplot(grid[2, column]), found, level)
    figure.savefig(path, dpi=100)


def _kinds(axes: Axes, found: Analysis) -> None:
    axes.set_title("Where the time goes (the paper's Figure 2)")
    kinds, values = zip(*reversed(found.kinds_ms.items()), strict=True)
    bars = axes.barh(kinds, values, color=[COLOURS[kind] for kind in kinds])
    axes.bar_label(bars, [f'{v / found.ms:.0%}' for v in values], padding=3)
    axes.set_xlabel('ms per pass')
    axes.margins(x=0.1)


def _parts(axes: Axes, found: Analysis) -> None:
    axes.set_title('By part of the network')
    times = {part: sum(ms.values()) for part, ms in found.parts_ms.items()}
    longest = sorted(times, key=times.get)[-_MOST_PARTS:]
    # In execution order from top to bottom.
    parts = [part for part in times if part in longest][::-1]
    left = np.zeros(len(parts))
    for kind in KINDS:
        values = np.array([found.parts_ms[p].get(kind, 0) for p in parts])
        if values.any():
            axes.barh(parts, values, 0.8, left, color=COLOURS[kind])
            left += values
    axes.set_xlabel('ms per pass')


def _roofline(axes: Axes, found: Analysis) -> None:
    axes.set_title('Roofline: circles are layers, areas are their times')
    peaks = found.peaks
    layers = [each for each in found.layers if each.flops and each.bytes]
    axes.scatter(
        [layer.flops / layer.bytes for layer in layers],
        [layer.per_ms(layer.flops) / 1e6 for layer in layers],
        [10 + 3000 * layer.ms / found.ms for layer in layers],
        color=[COLOURS[layer.kind] for layer in layers],
        alpha=0.5,
        linewidths=0,
    )
    cache = max(rate for _, rate in peaks.copies)
    for rate, style, name in (
        (peaks.memory_gb_per_s, 'k-', 'memory'),
        (cache, 'k--', 'cache'),
    ):
        # Left end of the slope, the corner, right end of the roof.
        intensity = (0.1, peaks.gmacs_per_s / rate, 1e3)
        roof = [min(rate * each, peaks.gmacs_per_s) for each in intensity]
        label = f'{name}, {rate:.0f} GB/s'
        axes.plot(intensity, roof, style, linewidth=1, label=label)
    names = dict(xlabel='multiply-adds per byte moved', ylabel='GMAC/s')
    axes.set(xscale='log', yscale='log', **names)
    axes.legend(fontsize='small')


def _advice(axes: Axes, found: Analysis) -> None:
    axes.set_title('What would help (gains overlap)')
    advice = found.advice[:_MOST_ADVICE][::-1]
    places = range(len(advice))
    axes.barh(places, [each.ms for each in advice], color='#ccddee')
    for place, each in zip(places, advice, strict=True):
        lines = wrap(each.text, 84, max_lines=2, placeholder=' ...')
        axes.text(0, place, '\n'.join(lines), va='center', fontsize='small')
    axes.set_yticks([])
    axes.set_xlabel('ms per pass')


def _field(axes: Axes, found: Analysis, level: str) -> None:
    gradients = found.gradients[level].numpy()
    # Square roots make weak gradients visible.
    axes.imshow(np.sqrt(gradients), cmap='magma', vmin=0, vmax=1)
    height, width = gradients.shape
    title = f'{level} sees {effective_size(found.gradients[level]):.0f} px'
    if field := found.fields.get(level):
        high, wide = field.size
        over = 'over ' * field.is_larger
        title += f'\nof {over}{high:.4g} px (theoretical, box)'
        corner = (width - wide) / 2, (height - high) / 2
        axes.add_patch(Rectangle(corner, wide, high, fill=False, color='w'))
    axes.set_title(title, fontsize='small')
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
