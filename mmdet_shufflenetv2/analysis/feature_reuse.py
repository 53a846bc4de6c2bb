"""How features are reused: Figure 4 of the paper (arXiv 1807.11164).

In ShuffleNet V2 half of a block's channels pass to the next one untouched,
so r^j c of a block's c channels reach, as they are, the j-th block behind it,
with r = 1/2 (section 3.2). Here they are counted in a real network.

In DenseNet every layer reads all that came before, but not to the same
extent: Figure 4 shows, for each pair of layers, the mean absolute weight with
which the later reads the earlier one, after Figure 5 of arXiv 1608.06993.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..backbones.shuffle_unit import ShuffleUnit


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

    Each channel of a block's output is given a number; the blocks behind it
    run as they are, but their main branch gives no number. Whatever still is
    a number has come through untouched.

    Args:
        backbone: of `ShuffleUnit`s; its weights have no influence.

    Raises:
        ValueError: no stage has two such blocks of equal channels.
    """
    found = []
    for name in getattr(backbone, 'stage_names', ()):
        units = list(getattr(backbone, name))
        if len(units) > 1 and all(isinstance(u, ShuffleUnit) for u in units):
            found += _passed_in(name, units)
    if not found:
        raise ValueError(
            'backbone must have stages of several ShuffleNet V2 units, got '
            f'{type(backbone).__name__}'
        )
    return found


def _passed_in(name: str, units: list[nn.Module]) -> list[Reuse]:
    # The main branch reads half of the channels.
    channels = 2 * units[1].branch2.pointwise1.in_channels
    unmarked = [
        unit.branch2.register_forward_hook(
            lambda module, inputs, output: torch.full_like(output, torch.nan)
        )
        for unit in units
    ]
    modes = [unit.training for unit in units]
    found = []
    try:
        for source in range(len(units)):
            x = torch.ones(1, channels, 2, 2)
            for target in range(source + 1, len(units)):
                with torch.no_grad():
                    x = units[target].eval()(x)
                count = int(x[0, :, 0, 0].isfinite().sum())
                found.append(
                    Reuse(
                        name,
                        source,
                        target,
                        count,
                        count / channels,
                        channels * 0.5 ** (target - source),
                    )
                )
    finally:
        for handle in unmarked:
            handle.remove()
        for unit, mode in zip(units, modes, strict=True):
            unit.train(mode)
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
        ValueError: there is no such layer, or the channels of a block do
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
    if not found:
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
