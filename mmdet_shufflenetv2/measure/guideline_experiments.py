"""The experiments behind guidelines G1 to G4 (arXiv 1807.11164, section 2).

Each stacks 10 equal blocks on 56x56 maps. Within an experiment the FLOPs of
all rows agree, but for rounding of channels and, in G4, what is taken out.

What the paper leaves open, and what is done here: convolutions stand alone,
without bias, batch norm or ReLU, except in G4. Parallel fragments of G3 are
summed. A bottleneck of G4 has its channels outside and a quarter of them
inside: with as many inside, the published speeds would be several times what
the processors can do. Table 3 has the channels of Table 2's first row, whose
speeds it repeats.

Speeds of Tables 1 to 4 on the GPU must be those of single images: eight, as
in Table 8, would be up to 31 T multiply-adds/s, of which the card does 5.7.
For ARM, Table 2 has 180 channels in 8 groups; here they are 184.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..paper.published import published_results
from .convolution import Convolution

SIZE = (56, 56)
BLOCKS = 10
SCALES = (1, 2, 4)
# Whose column of a table: the key of published figures.
PLATFORMS = {'gpu': 'gpu_batches_per_s', 'arm': 'arm_images_per_s'}
TITLES = {
    'G1': 'equal channel width minimises memory access (Table 1)',
    'G2': 'group convolution costs memory access (Table 2)',
    'G3': 'fragments reduce parallelism (Table 3)',
    'G4': 'element-wise operations are not negligible (Table 4)',
}


@dataclass(frozen=True)
class Experiment:
    """One cell of Tables 1 to 4.

    Attributes:
        guideline: ``'G1'`` to ``'G4'``.
        platform: whose widths, one of `PLATFORMS`.
        row: what the table calls the variant.
        scale: the columns x1, x2 and x4; channels are multiplied by it.
        channels: of the block, as the table gives them.
        build: makes the network.
        paper_per_s: published speed, batches or images per second.
    """

    guideline: str
    platform: str
    row: str
    scale: int
    channels: tuple[int, ...]
    build: Callable[[], nn.Sequential]
    paper_per_s: float

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the network's input."""
        return (batch, self.channels[0], *SIZE)


class Sum(nn.Module):
    """What fragments make of one map, added up; ``None`` is the map."""

    def __init__(self, *fragments: nn.Module | None):
        super().__init__()
        self.fragments = nn.ModuleList(
            nn.Identity() if f is None else f for f in fragments
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        first, *rest = (fragment(x) for fragment in self.fragments)
        for other in rest:
            first = first + other
        return first


def _conv(before: int, after: int, kernel: int = 1, groups: int = 1):
    return nn.Conv2d(
        before,
        after,
        kernel,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )


class _Row(NamedTuple):
    """One row of a table: its name, channels at x1, block and speeds.

    Attributes:
        multiple: what channels are rounded to.
    """

    name: str
    channels: tuple[float, ...]
    block: Callable[..., nn.Module]
    speeds: list[float]
    multiple: int = 1


def _g1(row: str, figures: list, platform: str) -> _Row:
    def block(first: int, second: int) -> nn.Module:
        return nn.Sequential(_conv(first, second), _conv(second, first))

    channels, *speeds = figures
    return _Row(row, tuple(channels), block, speeds)


def _g2(groups: int, figures: list, platform: str) -> _Row:
    def block(channels: int) -> nn.Module:
        return _conv(channels, channels, groups=groups)

    channels, *speeds = figures
    name = f'{groups} group{"s" * (groups > 1)}'
    return _Row(name, (channels,), block, speeds, multiple=groups)


def _g3(row: str, speeds: list, platform: str) -> _Row:
    fragments = int(row[0])

    def block(channels: int) -> nn.Module:
        layers = [_conv(channels, channels) for _ in range(fragments)]
        if row.endswith('parallel'):
            return Sum(*layers)
        return nn.Sequential(*layers)

    whole = {'gpu': 128, 'arm': 64}[platform]
    return _Row(row, (whole / math.sqrt(fragments),), block, speeds)


def _g4(row: str, speeds: list, platform: str) -> _Row:
    relu, shortcut = (word == 'yes' for word in row.split('_'))

    def act() -> list[nn.Module]:
        return [nn.ReLU(inplace=True)] if relu else []

    def block(channels: int) -> nn.Module:
        inner = channels // 4
        layers = nn.Sequential(
            _conv(channels, inner),
            *act(),
            _conv(inner, inner, 3),
            *act(),
            _conv(inner, channels),
        )
        if shortcut:
            layers = Sum(layers, None)
        return nn.Sequential(layers, *act())

    name = 'ReLU {}, shortcut {}'.format(*row.split('_'))
    return _Row(name, (32,), block, speeds)


# Table of published figures, and how a row of it is built.
_TABLES = {
    'G1': ('table1_g1', _g1),
    'G2': ('table2_g2', _g2),
    'G3': ('table3_g3', _g3),
    'G4': ('table4_g4', _g4),
}


def experiments(guideline: str, platform: str) -> list[Experiment]:
    """The cells of one table, a scale after the other.

    The first of a scale is what the others are compared with.

    Args:
        guideline: one of `TITLES`.
        platform: one of `PLATFORMS`.

    Raises:
        ValueError: an argument is not one of these.
    """
    for name, value, allowed in (
        ('guideline', guideline, TITLES),
        ('platform', platform, PLATFORMS),
    ):
        if value not in allowed:
            raise ValueError(
                f'{name} must be one of {", ".join(allowed)}, got {value!r}'
            )
    table, make_row = _TABLES[guideline]
    figures = published_results()[table][PLATFORMS[platform]]
    rows = [make_row(*row, platform) for row in figures.items()]
    cells = []
    for place, scale in enumerate(SCALES):
        for row in rows:
            channels = tuple(
                row.multiple * math.floor(c * scale / row.multiple + 0.5)
                for c in row.channels
            )
            cells.append(
                Experiment(
                    guideline,
                    platform,
                    row.name,
                    scale,
                    channels,
                    partial(stack, row.block, channels),
                    row.speeds[place],
                )
            )
    return cells


def stack(
    block: Callable[..., nn.Module], channels: tuple[int, ...]
) -> nn.Sequential:
    """Blocks in series, with weights that keep the size of the values."""
    network = nn.Sequential(*(block(*channels) for _ in range(BLOCKS)))
    relu = any(isinstance(m, nn.ReLU) for m in network.modules())
    for conv in _convs(network):
        nn.init.kaiming_normal_(
            conv.weight, nonlinearity='relu' if relu else 'linear'
        )
    for module in network.modules():
        if isinstance(module, Sum):
            for fragment in module.fragments:
                for conv in _convs(fragment)[-1:]:
                    conv.weight.data /= math.sqrt(len(module.fragments))
    return network


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def predict(experiment: Experiment, batch: int) -> tuple[int, int]:
    """Multiply-adds and memory access of an experiment.

    Memory access, in elements, is that of convolutions (`cost`) and of
    element-wise operations, which read each operand and write the result.

    Args:
        experiment: a cell of a table.
        batch: images.
    """
    flops = memory_access = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor):
        nonlocal flops, memory_access
        if isinstance(module, nn.Conv2d):
            layer = Convolution(
                module.in_channels,
                module.out_channels,
                SIZE,
                kernel_size=module.kernel_size,
                groups=module.groups,
                batch=batch,
            )
            flops += layer.flops
            memory_access += layer.memory_access
        elif isinstance(module, nn.ReLU):
            memory_access += 2 * output.numel()
        elif isinstance(module, Sum):
            memory_access += 3 * (len(module.fragments) - 1) * output.numel()

    with torch.device('meta'):
        network = experiment.build()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.empty(experiment.shape(batch)))
    return flops, memory_access
