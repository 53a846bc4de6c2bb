"""How features are reused: Figure 4 of the paper (arXiv 1807.11164).

In ShuffleNet V2 half of a block's channels pass to the next one untouched,
so r^j c of a block's c channels reach, as they are, the j-th block after it,
with r = 1/2 (section 3.2). Here they are counted in a real network.

In DenseNet every layer reads all that came before, but not to the same
extent: Figure 4 shows, for each pair of layers, the mean absolute weight with
which the later reads the earlier one, after Figure 5 of arXiv 1608.06993.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from ..compat.atomic_files import whole_file


class Reuse(NamedTuple):
    """How much of a layer's output reaches a later layer.

    Attributes:
        part: the stage or dense block.
        source, target: indices of the layers; 0 of DenseNet is the block's
            input.
        value: channels in ShuffleNet V2, mean absolute weight in DenseNet.
        share: of the source's channels, or of the largest value that the
            target has.
        expected: channels by the paper's formula; None for DenseNet.
    """

    part: str
    source: int
    target: int
    value: float
    share: float
    expected: float | None = None


def passed_channels(backbone: nn.Module) -> list[Reuse]:
    """Count the channels that pass from block to block untouched.

    Each channel of a block's output gets a value of its own and runs through
    the blocks after it; where that value comes out again, bit for bit, it has
    passed.

    Args:
        backbone: with `stage_names`, whose stages are sequences of blocks.

    Raises:
        ValueError: nothing passes in any stage.
    """
    outputs: dict[nn.Module, Tensor] = {}
    stages = {
        # Blocks have layers of their own; a last convolution is of layers.
        name: [
            unit
            for unit in getattr(backbone, name).children()
            if list(unit.children())
        ]
        for name in getattr(backbone, 'stage_names', ())
    }
    handles = [
        unit.register_forward_hook(lambda u, _, out: outputs.update({u: out}))
        for units in stages.values()
        for unit in units
    ]
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    found = []
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, 64, 64))
            for name, units in stages.items():
                found += _passed_in(name, units, outputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'backbone must have stages of several ShuffleNet V2 units, got '
            f'{type(backbone).__name__}, where no channel passes a block '
            'untouched'
        )
    return found


def _passed_in(
    name: str, units: Sequence[nn.Module], outputs: Mapping[nn.Module, Tensor]
) -> list[Reuse]:
    found = []
    for source, unit in enumerate(units):
        out = outputs.get(unit)
        if not isinstance(out, Tensor) or out.dim() != 4:
            return []
        channels = out.shape[1]
        values = torch.arange(1.0, channels + 1)
        # Units may overwrite the map that they are given.
        x = values.view(1, -1, 1, 1).repeat(1, 1, 2, 2)
        for target in range(source + 1, len(units)):
            if outputs[units[target]].shape[1] != channels:
                break
            x = units[target](x)
            known = (x[0] == x[0, :, :1, :1]).flatten(1).all(1)
            count = int(torch.isin(x[0, known, 0, 0], values).sum())
            expected = channels * 0.5 ** (target - source)
            found.append(
                Reuse(name, source, target, count, count / channels, expected)
            )
    return found


# torchvision's and torch hub's older names, and this package's.
_DENSE_LAYERS = (
    re.compile(
        r'denseblock(?P<block>\d+)\.denselayer(?P<layer>\d+)'
        r'\.conv\.?1\.weight$'
    ),
    re.compile(
        r'stage(?P<block>\d+)\.(?P<layer>\d+)\.pointwise\.conv\.weight$'
    ),
)


def dense_weights(state: Mapping[str, Tensor]) -> list[Reuse]:
    """How strongly each layer of a DenseNet reads each earlier one.

    Args:
        state: weights by their names in torchvision's or in this package's
            DenseNet.

    Raises:
        ValueError: no such layer is found, or the channels of a block do
            not grow by the same number from layer to layer.
    """
    blocks: dict[int, dict[int, Tensor]] = {}
    for name, weight in state.items():
        for pattern in _DENSE_LAYERS:
            if match := pattern.search(name):
                layers = blocks.setdefault(int(match['block']), {})
                layers[int(match['layer'])] = weight
    found = []
    for block, layers in sorted(blocks.items()):
        ordered = [layers[index] for index in sorted(layers)]
        found += _dense_block(f'block {block}', ordered)
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'state must hold a DenseNet, with names such as '
            'denseblock1.denselayer2.conv1.weight, got '
            f'{", ".join(list(state)[:3]) or "nothing"}'
        )
    return found


def _dense_block(name: str, weights: list[Tensor]) -> list[Reuse]:
    widths = [weight.shape[1] for weight in weights]
    growth = {after - before for before, after in pairwise(widths)}
    if len(growth) > 1 or min(growth, default=1) <= 0:
        raise ValueError(
            f'state: the layers of {name} must read equally many channels '
            f'more from one to the next, got {widths}'
        )
    step = growth.pop() if growth else 0
    found = []
    for target, weight in enumerate(weights, start=1):
        sizes = [widths[0], *[step] * (target - 1)]
        means = [part.abs().mean().item() for part in weight.split(sizes, 1)]
        found += [
            Reuse(name, source, target, mean, mean / max(means))
            for source, mean in enumerate(means)
        ]
    return found


# More blocks leave no room for numbers in the cells.
_MOST_COUNTS = 8
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
    figure = Figure(figsize=(3.4 * width, 4 * len(rows)), layout='constrained')
    lines = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for line, name, parts in zip(lines, networks, rows, strict=True):
        line.suptitle(name)
        axes = line.subplots(1, width, squeeze=False)[0]
        for axis in axes[len(parts) :]:
            axis.axis('off')
        for axis, (part, reuses) in zip(axes, parts.items(), strict=False):
            picture = _draw_part(axis, reuses)
            axis.set_title(part)
        is_counted = next(iter(parts.values()))[0].expected is not None
        line.colorbar(
            picture,
            ax=axes,
            shrink=0.8,
            label='share of channels untouched'
            if is_counted
            else 'mean |weight| / the largest',
        )
    return figure


def _draw_part(axis: Axes, reuses: Sequence[Reuse]) -> AxesImage:
    """Shares, source by target; nothing where nothing can be."""
    targets = [reuse.target for reuse in reuses]
    first, last = min(targets), max(targets)
    grid = np.full((last, last - first + 1), np.nan)
    for reuse in reuses:
        grid[reuse.source, reuse.target - first] = reuse.share
        if last <= _MOST_COUNTS and reuse.expected is not None:
            axis.text(
                *(reuse.target, reuse.source, f'{reuse.value:g}'),
                **dict(ha='center', va='center', fontsize=7, color='w'),
            )
    axis.set(xlabel='to block', ylabel='from block')
    for side in axis.xaxis, axis.yaxis:
        side.set_major_locator(MaxNLocator(integer=True))
    return axis.imshow(
        grid,
        vmin=0,
        vmax=1,
        extent=(first - 0.5, last + 0.5, last - 0.5, -0.5),
    )


def write_csv(path: Path, networks: Networks) -> None:
    """Write every entry, after the name of its network."""
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
                    f'after it, counted (r^j c): {pairs}'
                )
    return '\n'.join(lines)


def _decay(entries: Sequence[Reuse]) -> str:
    """Mean share of the layers by their distance before the reader."""
    distances: dict[int, list[float]] = {}
    for entry in entries:
        distances.setdefault(entry.target - entry.source, []).append(
            entry.share
        )
    means = ', '.join(
        f'{np.mean(shares):.2f}' for _, shares in sorted(distances.items())
    )
    return (
        'mean |weight| over the largest, of the layer 1, 2, ... before: '
        + means
    )
