"""Measure feature reuse: Figure 4 of the paper (arXiv 1807.11164).

In ShuffleNet V2 half of a block's channels pass to the next block unchanged,
so r^j c of a block's c channels reach the j-th block after it unchanged, with
r = 1/2 (section 3.2). This module counts them in an actual network.

In DenseNet every layer reads all earlier layers, but to different degrees.
For each pair of layers, Figure 4 shows the mean absolute weight with which the
later layer reads the earlier one, following Figure 5 of arXiv 1608.06993.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from ..compat.atomic_files import whole_file


class Reuse(NamedTuple):
    """How much of a layer's output reaches a later layer.

    Attributes:
        part: the stage or dense block.
        source, target: indices of the layers; in DenseNet, 0 is the block's
            input.
        value: channels in ShuffleNet V2, mean absolute weight in DenseNet.
        share: value relative to the source's channels, or to the target's
            largest value.
        expected: channels by the paper's formula; None for DenseNet.
    """

    part: str
    source: int
    target: int
    value: float
    share: float
    expected: float | None = None


def passed_channels(backbone: nn.Module) -> list[Reuse]:
    """Count the channels that pass from block to block unchanged.

    Each channel of a block's output is filled with a unique value and run
    through the following blocks. A channel has passed if its value reappears
    bit for bit. The backbone is left in evaluation mode.

    Raises:
        ValueError: no channel passes in any stage.
    """
    widths: dict[nn.Module, int] = {}
    hook = register_module_forward_hook(
        lambda module, _, out: widths.update({module: len(out[0])})
    )
    backbone.eval()
    found = []
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
        hook.remove()
        for name in getattr(backbone, 'stage_names', ()):
            # A final convolution is no block: its children are leaves.
            children = getattr(backbone, name).children()
            blocks = [block for block in children if any(block.children())]
            for source, block in enumerate(blocks):
                channels = widths[block]
                values = torch.arange(1.0, channels + 1)
                # Blocks may overwrite their input.
                x = values.view(1, -1, 1, 1).repeat(1, 1, 2, 2)
                for target in range(source + 1, len(blocks)):
                    if widths[blocks[target]] != channels:
                        break
                    x = blocks[target](x)
                    known = (x[0] == x[0, :, :1, :1]).flatten(1).all(1)
                    count = int(torch.isin(x[0, known, 0, 0], values).sum())
                    share = count / channels
                    expected = channels * 0.5 ** (target - source)
                    found.append(
                        Reuse(name, source, target, count, share, expected)
                    )
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'backbone: expected stages of several ShuffleNet V2 units, got '
            f'{type(backbone).__name__}, in which no channel passes a block '
            'unchanged'
        )
    return found


# Names of torchvision, of older torch hub weights, and of this package.
_DENSE_LAYER = re.compile(
    r'denseblock(\d+)\.denselayer(\d+)\.conv\.?1\.weight$|'
    r'stage(\d+)\.(\d+)\.pointwise\.conv\.weight$'
)


def dense_weights(state: Mapping[str, Tensor]) -> list[Reuse]:
    """Measure how strongly each DenseNet layer reads each earlier one.

    The names must be those of torchvision's or of this package's DenseNet.

    Raises:
        ValueError: the state has no such layer.
    """
    blocks: dict[int, dict[int, Tensor]] = {}
    for name, weight in state.items():
        if match := _DENSE_LAYER.search(name):
            block, layer = (int(each) for each in match.groups() if each)
            blocks.setdefault(block, {})[layer] = weight
    found = []
    for block, layers in sorted(blocks.items()):
        weights = [layers[layer] for layer in sorted(layers)]
        # A layer's additional inputs are the outputs of the previous one.
        widths = [0, *(weight.shape[1] for weight in weights)]
        sizes = [after - before for before, after in pairwise(widths)]
        for target, weight in enumerate(weights, start=1):
            parts = weight.split(sizes[:target], 1)
            means = [part.abs().mean().item() for part in parts]
            for source, mean in enumerate(means):
                pair = (f'block {block}', source, target)
                found.append(Reuse(*pair, mean, mean / max(means)))
    if not any(reuse.value for reuse in found):
        raise ValueError(
            'state: expected weights of a DenseNet, with names such as '
            'denseblock1.denselayer2.conv1.weight, got '
            f'{", ".join(list(state)[:3]) or "nothing"}'
        )
    return found


Networks = Mapping[str, Sequence[Reuse]]


def _by_part(reuses: Sequence[Reuse]) -> dict[str, list[Reuse]]:
    parts = groupby(reuses, lambda reuse: reuse.part)
    return {part: list(members) for part, members in parts}


def draw(networks: Networks) -> Figure:
    """Draw heat maps of (source, target) pairs, one row per network."""
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
            targets = [reuse.target for reuse in reuses]
            first, last = min(targets), max(targets)
            grid = np.full((last, last - first + 1), np.nan)
            for reuse in reuses:
                grid[reuse.source, reuse.target - first] = reuse.share
            extent = (first - 0.5, last + 0.5, last - 0.5, -0.5)
            picture = axis.imshow(grid, vmin=0, vmax=1, extent=extent)
            axis.set(title=part, xlabel='to block', ylabel='from block')
        label = 'share of unchanged channels'
        if reuses[0].expected is None:
            label = 'mean |weight|, relative to the largest'
        line.colorbar(picture, ax=axes, shrink=0.8, label=label)
    return figure


def write_csv(path: Path, networks: Networks) -> None:
    """Write one row per entry, starting with the network's name."""
    with whole_file(path, 'w', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('network', *Reuse._fields))
        for name, reuses in networks.items():
            for reuse in reuses:
                value, share = f'{reuse.value:.6g}', f'{reuse.share:.4f}'
                expected = '' if reuse.expected is None else reuse.expected
                writer.writerow((name, *reuse[:3], value, share, expected))
