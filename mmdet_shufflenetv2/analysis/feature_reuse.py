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
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
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
    passed. The backbone is left in evaluation mode.

    Raises:
        ValueError: nothing passes in any stage.
    """
    outputs: dict[nn.Module, Tensor] = {}
    # Blocks have layers of their own; a last convolution is of layers.
    stages = {
        name: [
            u for u in getattr(backbone, name).children() if any(u.children())
        ]
        for name in getattr(backbone, 'stage_names', ())
    }
    handles = [
        unit.register_forward_hook(lambda u, _, out: outputs.update({u: out}))
        for units in stages.values()
        for unit in units
    ]
    backbone.eval()
    found = []
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
        for handle in handles:
            handle.remove()
        for name, units in stages.items():
            found += _passed_in(name, units, [outputs.get(u) for u in units])
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'backbone must have stages of several ShuffleNet V2 units, got '
            f'{type(backbone).__name__}, where no channel passes a block '
            'untouched'
        )
    return found


def _passed_in(
    name: str, units: Sequence[nn.Module], outputs: Sequence[Tensor]
) -> list[Reuse]:
    found = []
    if not all(isinstance(o, Tensor) and o.dim() == 4 for o in outputs):
        return found
    widths = [out.shape[1] for out in outputs]
    for source, channels in enumerate(widths):
        values = torch.arange(1.0, channels + 1)
        # Units may overwrite the map that they are given.
        x = values.view(1, -1, 1, 1).repeat(1, 1, 2, 2)
        for target in range(source + 1, len(units)):
            if widths[target] != channels:
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
_DENSE_LAYER = re.compile(
    r'denseblock(\d+)\.denselayer(\d+)\.conv\.?1\.weight$|'
    r'stage(\d+)\.(\d+)\.pointwise\.conv\.weight$'
)


def dense_weights(state: Mapping[str, Tensor]) -> list[Reuse]:
    """How strongly each layer of a DenseNet reads each earlier one.

    The names are those of torchvision's or of this package's DenseNet.

    Raises:
        ValueError: no such layer is found, or the channels of a block do
            not grow by the same number from layer to layer.
    """
    layers = []
    for name, weight in state.items():
        if match := _DENSE_LAYER.search(name):
            block, layer = (int(each) for each in match.groups() if each)
            layers.append((block, layer, weight))
    layers.sort(key=lambda each: each[:2])
    found = []
    for block, members in groupby(layers, lambda each: each[0]):
        weights = [weight for *_, weight in members]
        widths = [weight.shape[1] for weight in weights]
        growth = {after - before for before, after in pairwise(widths)}
        if len(growth) > 1 or min(growth, default=1) <= 0:
            raise ValueError(
                f'state: the layers of block {block} must read equally many '
                f'channels more from one to the next, got {widths}'
            )
        for target, weight in enumerate(weights, start=1):
            sizes = [widths[0], *[*growth] * (target - 1)]
            means = [p.abs().mean().item() for p in weight.split(sizes, 1)]
            for source, mean in enumerate(means):
                pair = (f'block {block}', source, target)
                found.append(Reuse(*pair, mean, mean / max(means)))
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'state must hold a DenseNet, with names such as '
            'denseblock1.denselayer2.conv1.weight, got '
            f'{", ".join(list(state)[:3]) or "nothing"}'
        )
    return found


Networks = Mapping[str, Sequence[Reuse]]


def _by_part(reuses: Sequence[Reuse]) -> dict[str, list[Reuse]]:
    parts = groupby(reuses, lambda reuse: reuse.part)
    return {part: list(members) for part, members in parts}


def draw(networks: Networks) -> Figure:
    """Maps of (source, target) pairs, a row for each network by its name."""
    rows = [_by_part(reuses) for reuses in networks.values()]
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
        label = 'share of channels untouched'
        if reuses[0].expected is None:
            label = 'mean |weight| / the largest'
        line.colorbar(picture, ax=axes, shrink=0.8, label=label)
    return figure


def _draw_part(axis: Axes, reuses: Sequence[Reuse]) -> AxesImage:
    """Shares, source by target; nothing where nothing can be."""
    targets = [reuse.target for reuse in reuses]
    first, last = min(targets), max(targets)
    grid = np.full((last, last - first + 1), np.nan)
    for reuse in reuses:
        grid[reuse.source, reuse.target - first] = reuse.share
    axis.set(xlabel='to block', ylabel='from block')
    extent = (first - 0.5, last + 0.5, last - 0.5, -0.5)
    return axis.imshow(grid, vmin=0, vmax=1, extent=extent)


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
    """Channels counted beside r^j c; of weights the mean by distance."""
    lines = []
    for name, reuses in networks.items():
        lines.append(name)
        for part, entries in _by_part(reuses).items():
            if entries[0].expected is None:
                shares: dict[int, list[float]] = {}
                for e in entries:
                    shares.setdefault(e.target - e.source, []).append(e.share)
                means = [np.mean(each) for _, each in sorted(shares.items())]
                said = 'mean |weight| over the largest, of the layer 1, 2, ...'
                said += ' before: ' + ', '.join(f'{m:.2f}' for m in means)
            else:
                said = 'channels that reach the 1st, 2nd, ... block after it, '
                said += 'counted (r^j c): ' + ', '.join(
                    f'{e.value:g} ({e.expected:g})'
                    for e in entries
                    if e.source == 0
                )
            lines.append(f'  {part}: {said}')
    return '\n'.join(lines)
