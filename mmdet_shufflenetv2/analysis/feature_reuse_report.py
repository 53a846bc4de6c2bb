"""Figure 4 as a picture, a CSV file and a text."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from ..compat.atomic_files import whole_file
from .feature_reuse import Reuse

Networks = Mapping[str, Sequence[Reuse]]


def by_part(reuses: Sequence[Reuse]) -> dict[str, list[Reuse]]:
    """The entries of each stage or block."""
    parts: dict[str, list[Reuse]] = {}
    for reuse in reuses:
        parts.setdefault(reuse.part, []).append(reuse)
    return parts


def draw(networks: Networks) -> Figure:
    """Maps of (source, target) pairs, a row for each network.

    Args:
        networks: entries by the name of their network.
    """
    rows = [by_part(reuses) for reuses in networks.values()]
    width = max(map(len, rows))
    figure = Figure(
        figsize=(3.2 * width, 3.2 * len(rows)), layout='constrained'
    )
    axes = figure.subplots(len(rows), width, squeeze=False)
    for line, name, parts in zip(axes, networks, rows, strict=True):
        for axis in line[len(parts) :]:
            axis.axis('off')
        for axis, (part, reuses) in zip(line, parts.items(), strict=False):
            picture = _draw_part(axis, reuses)
            axis.set_title(f'{name}\n{part}')
    figure.colorbar(
        picture,
        ax=axes,
        shrink=0.6,
        label='share of channels, or mean |weight| over the largest',
    )
    return figure


def _draw_part(axis: Axes, reuses: Sequence[Reuse]) -> AxesImage:
    """Shares, source by target; nothing where nothing can be."""
    targets = [reuse.target for reuse in reuses]
    first, last = min(targets), max(targets)
    grid = np.full((last, last - first + 1), np.nan)
    for reuse in reuses:
        grid[reuse.source, reuse.target - first] = reuse.share
    axis.set(xlabel='to', ylabel='from')
    for side in axis.xaxis, axis.yaxis:
        side.set_major_locator(MaxNLocator(integer=True))
    return axis.imshow(
        grid,
        vmin=0,
        vmax=1,
        extent=(first - 0.5, last + 0.5, last - 0.5, -0.5),
    )


def write_csv(path: Path, networks: Networks) -> None:
    """Write every entry, behind the name of its network."""
    with whole_file(path, 'w', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('network', *Reuse._fields))
        for name, reuses in networks.items():
            for reuse in reuses:
                value, share = f'{reuse.value:.6g}', f'{reuse.share:.4f}'
                expected = '' if reuse.expected is None else reuse.expected
                writer.writerow((name, *reuse[:3], value, share, expected))


def describe(networks: Networks) -> str:
    """What the entries say: counted beside r^j c, or the decay of weights."""
    lines = []
    for name, reuses in networks.items():
        lines.append(name)
        for part, entries in by_part(reuses).items():
            if entries[0].expected is None:
                lines.append(f'  {part}: {_decay(entries)}')
            else:
                first = [e for e in entries if e.source == 0]
                pairs = ', '.join(
                    f'{e.value:g} ({e.expected:g})' for e in first
                )
                lines.append(
                    f'  {part}: channels that reach the 1st, 2nd, ... block '
                    f'behind, counted (r^j c): {pairs}'
                )
    return '\n'.join(lines)


def _decay(entries: Sequence[Reuse]) -> str:
    """Mean share of the layers that are so far in front of the reader."""
    distances: dict[int, list[float]] = {}
    for entry in entries:
        distances.setdefault(entry.target - entry.source, []).append(
            entry.share
        )
    means = ', '.join(
        f'{np.mean(shares):.2f}' for _, shares in sorted(distances.items())
    )
    return (
        'mean |weight| over the largest, of the layer 1, 2, ... in front: '
        + means
    )
