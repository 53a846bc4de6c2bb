"""Tests of the guidelines G1 to G4 (arXiv 1807.11164, Tables 1 to 4).

Each experiment stacks 10 equal blocks on 56x56 maps. All rows of an experiment
have the same FLOPs, except for rounded channels and the removed operations of
G4.

Choices where the paper is silent: convolutions have no bias, batch norm or
ReLU, except in G4. Parallel fragments of G3 are summed. A bottleneck of G4 has
a quarter of the block's channels inside: with all of them, the published
speeds would be several times the processors' peak. Table 3 uses the channels
of Table 2's first row, because it repeats that row's speeds.

The published GPU speeds must be for single images: batches of 8, as in Table
8, would need up to 31 TMAC/s on a card that reaches 5.7. Table 2 has 180
channels in 8 groups on ARM; 184 are used here.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .benchmark import COUNTS, Benchmark, Row, Time
from .flops import macs
from .networks import inference, place
from .setting import Setting
from .timing import Effort, significant, timed, timed_columns

HELP = 'Tables 1 to 4: do the four guidelines hold on this machine?'
EXAMPLE = 'G1 G3 --device cuda'
THREADS, MODE = 1, 'eager'
EFFORT = Effort(min_runs=10, max_runs=100, seconds=3, warmup_seconds=2)
COLUMNS = (
    *('guideline', 'platform', 'scale', 'row', 'channels', 'batch'),
    *timed_columns('time_ratio'),
    *('per_s', 'paper_per_s', 'paper_time_ratio', 'memory_access_ratio'),
    'flops_m',
)
SIZE = (56, 56)
BLOCKS = 10
SCALES = (1, 2, 4)
# A function from channels to a block; its channels at x1 on the GPU and on
# ARM; the number that channels must be a multiple of.
Variant = tuple[Callable[..., nn.Module], tuple, tuple, int]


class Sum(nn.Sequential):
    """The sum of its modules' outputs for the same input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        return reduce(torch.add, (fragment(x) for fragment in self))


def _conv(
    before: int,
    after: int | None = None,
    kernel: int = 1,
    groups: int = 1,
    gain: float = 1.0,
) -> nn.Conv2d:
    """A convolution whose random weights preserve the scale of values."""
    layer = nn.Conv2d(
        before,
        after or before,
        kernel,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )
    nn.init.kaiming_normal_(layer.weight, nonlinearity='linear')
    layer.weight.data *= gain
    return layer


def _g1(gpu: tuple[int, int], arm: tuple[int, int]) -> Variant:
    def block(first: int, second: int) -> nn.Module:
        return nn.Sequential(_conv(first, second), _conv(second, first))

    return block, gpu, arm, 1


def _g2(groups: int, gpu: int) -> Variant:
    return partial(_conv, groups=groups), (gpu,), (gpu / 2,), groups


def _g3(count: int, combine: type = nn.Sequential) -> Variant:
    def block(channels: int) -> nn.Module:
        gain = count**-0.5 if combine is Sum else 1.0
        return combine(*(_conv(channels, gain=gain) for _ in range(count)))

    return block, (128 / count**0.5,), (64 / count**0.5,), 1


def _g4(relu: bool, shortcut: bool) -> Variant:
    gain = 2**0.5 if relu else 1.0

    def block(channels: int) -> nn.Module:
        act = [nn.ReLU(inplace=True)] * relu
        inner, last = channels // 4, gain / 2**0.5 if shortcut else gain
        main = nn.Sequential(
            _conv(channels, inner, gain=gain),
            *act,
            _conv(inner, kernel=3, gain=gain),
            *act,
            _conv(inner, channels, gain=last),
        )
        if shortcut:
            main = Sum(main, nn.Identity())
        return nn.Sequential(main, *act)

    return block, (32,), (32,), 1


# The first row of a table is the reference.
TABLES: dict[str, dict[str, Variant]] = {
    'G1': {
        '1:1': _g1((128, 128), (32, 32)),
        '1:2': _g1((90, 180), (22, 44)),
        '1:6': _g1((52, 312), (13, 78)),
        '1:12': _g1((36, 432), (9, 108)),
    },
    'G2': {
        '1 group': _g2(1, 128),
        '2 groups': _g2(2, 180),
        '4 groups': _g2(4, 256),
        '8 groups': _g2(8, 360),
    },
    'G3': {
        '1-fragment': _g3(1),
        '2-series': _g3(2),
        '4-series': _g3(4),
        '2-parallel': _g3(2, Sum),
        '4-parallel': _g3(4, Sum),
    },
    'G4': {
        'ReLU yes, shortcut yes': _g4(relu=True, shortcut=True),
        'ReLU yes, shortcut no': _g4(relu=True, shortcut=False),
        'ReLU no, shortcut yes': _g4(relu=False, shortcut=True),
        'ReLU no, shortcut no': _g4(relu=False, shortcut=False),
    },
}


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        guideline: ``'G1'`` to ``'G4'``.
        platform: ``'gpu'`` or ``'arm'``, whose channels differ.
        row: the variant's name in the table.
        scale: factor on the channels: 1, 2 or 4 for columns x1, x2, x4.
    """

    guideline: str
    platform: str
    row: str
    scale: int

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of a block, as listed in the table."""
        _, gpu, arm, step = TABLES[self.guideline][self.row]
        return tuple(
            step * math.floor(c * self.scale / step + 0.5)
            for c in (gpu if self.platform == 'gpu' else arm)
        )

    def build(self) -> nn.Sequential:
        """Build `BLOCKS` blocks in series."""
        block, *_ = TABLES[self.guideline][self.row]
        return nn.Sequential(*(block(*self.channels) for _ in range(BLOCKS)))


def predict(cell: Cell, batch: int) -> tuple[int, int]:
    """Return the multiply-adds and the memory access of a cell's network.

    Memory access is counted in elements, as in the paper (section 2, G1):
    each convolution and element-wise operation reads its inputs and writes
    its output; weights are read once per batch.
    """
    memory_access = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor):
        nonlocal memory_access
        if isinstance(module, nn.Conv2d):
            weights = module.weight.numel()
            memory_access += inputs[0].numel() + output.numel() + weights
        elif isinstance(module, nn.ReLU):
            memory_access += 2 * output.numel()
        elif isinstance(module, Sum):
            memory_access += 3 * (len(module) - 1) * output.numel()

    with torch.device('meta'):
        network = cell.build()
        x = torch.empty(batch, cell.channels[0], *SIZE)
    for module in network.modules():
        module.register_forward_hook(count)
    return macs(network, x), memory_access


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select guidelines, channels and batch."""
    add = parser.add_argument
    names = dict(nargs='*', choices=[*TABLES, 'all'], default='all')
    text = f'{" ".join(TABLES)}; default: all'
    add('guidelines', **names, metavar='GUIDELINE', help=text)
    add('--batch', **COUNTS, help='default: 1 on a CPU, 8 and 1 on a GPU')
    text = "use the paper's channels for this platform; default: by device"
    add('--platform', choices=('gpu', 'arm'), help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each cell, timed in turn with the first row of its scale."""
    found = []
    for setting in settings:
        platform, batches = ('gpu', [8, 1]) if setting.on_gpu else ('arm', [1])
        names = TABLES if 'all' in args.guidelines else args.guidelines
        for batch, guideline in product(args.batch or batches, names):
            for scale, row in product(SCALES, TABLES[guideline]):
                cell = Cell(guideline, args.platform or platform, row, scale)
                key = {
                    'guideline': guideline,
                    'platform': cell.platform,
                    'scale': f'x{scale}',
                    'row': row,
                    'channels': '-'.join(map(str, cell.channels)),
                    'batch': batch,
                }
                measure = partial(_measure, cell, batch, setting)
                found.append(Benchmark(key, setting, measure))
    return found


def _measure(
    cell: Cell, batch: int, setting: Setting, time: Time
) -> list[Row]:
    first = cell._replace(row=next(iter(TABLES[cell.guideline])))
    runs = {}
    for each in first, cell:
        torch.manual_seed(0)
        network = each.build().eval().requires_grad_(False)
        shape = (batch, each.channels[0], *SIZE)
        runs[each] = inference(place(network, setting), shape, setting)
    times = time(runs)
    row = timed(times[cell], 'time_ratio', times[cell], times[first])
    flops, memory_access = predict(cell, batch)
    _, first_access = predict(first, batch)
    return [
        {
            **row,
            'per_s': significant(1e3 / row['median_ms']),
            'memory_access_ratio': round(memory_access / first_access, 3),
            'flops_m': round(flops / batch / 1e6, 1),
        }
    ]
