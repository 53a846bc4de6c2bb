"""Guidelines G1 to G4 put to the test (arXiv 1807.11164, Tables 1 to 4).

Each experiment stacks 10 equal blocks on 56x56 maps. Within one the FLOPs of
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .benchmark import Benchmark, Row, Time
from .convolution import Convolution
from .networks import inference, place
from .setting import Setting
from .timing import TIMED, Effort, compared, ratio_names, significant

HELP = 'Tables 1 to 4: do the four guidelines hold on this machine?'
EXAMPLE = 'G1 G3 --device cuda'
THREADS, MODE = 1, 'eager'
EFFORT = Effort(min_runs=10, max_runs=100, seconds=3, warmup_seconds=2)
COLUMNS = (
    'guideline',
    'platform',
    'scale',
    'row',
    'channels',
    'batch',
    *TIMED,
    *ratio_names('time_ratio'),
    'per_s',
    'paper_per_s',
    'paper_time_ratio',
    'memory_access_ratio',
    'flops_m',
)

SIZE = (56, 56)
BLOCKS = 10
SCALES = (1, 2, 4)
TITLES = {
    'G1': 'equal channel width minimises memory access (Table 1)',
    'G2': 'group convolution costs memory access (Table 2)',
    'G3': 'fragments reduce parallelism (Table 3)',
    'G4': 'element-wise operations are not negligible (Table 4)',
}
# The row of each table that shows its guideline best, and whether it is
# expected to take longer than the first row, or shorter.
TELLING = {
    'G1': ('1:12', 'longer'),
    'G2': ('8 groups', 'longer'),
    'G3': ('4-parallel', 'longer'),
    'G4': ('ReLU no, shortcut no', 'shorter'),
}


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


def _conv(
    before: int, after: int | None = None, kernel: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = kernel // 2
    return nn.Conv2d(
        before,
        after or before,
        kernel,
        padding=padding,
        groups=groups,
        bias=False,
    )


def _pair(first: int, second: int) -> nn.Module:
    return nn.Sequential(_conv(first, second), _conv(second, first))


def _fragments(channels: int, count: int, parallel: bool) -> nn.Module:
    combine = Sum if parallel else nn.Sequential
    return combine(*(_conv(channels) for _ in range(count)))


def _bottleneck(channels: int, relu: bool, shortcut: bool) -> nn.Module:
    def act() -> list[nn.Module]:
        return [nn.ReLU(inplace=True)] if relu else []

    inner = channels // 4
    layers = nn.Sequential(
        _conv(channels, inner),
        *act(),
        _conv(inner, kernel=3),
        *act(),
        _conv(inner, channels),
    )
    return nn.Sequential(Sum(layers, None) if shortcut else layers, *act())


class Variant(NamedTuple):
    """One row of a table.

    Attributes:
        block: makes one of ten, of its channels.
        gpu, arm: channels at x1, by the processor the speeds are of.
        multiple: what channels are rounded to.
    """

    block: Callable[..., nn.Module]
    gpu: tuple[float, ...]
    arm: tuple[float, ...]
    multiple: int = 1


def _g3(count: int, parallel: bool = False) -> Variant:
    block = partial(_fragments, count=count, parallel=parallel)
    return Variant(block, (128 / count**0.5,), (64 / count**0.5,))


def _g4(relu: bool, shortcut: bool) -> Variant:
    block = partial(_bottleneck, relu=relu, shortcut=shortcut)
    return Variant(block, (32,), (32,))


# The first row of a table is what its others are compared with.
TABLES = {
    'G1': {
        '1:1': Variant(_pair, (128, 128), (32, 32)),
        '1:2': Variant(_pair, (90, 180), (22, 44)),
        '1:6': Variant(_pair, (52, 312), (13, 78)),
        '1:12': Variant(_pair, (36, 432), (9, 108)),
    },
    'G2': {
        '1 group': Variant(_conv, (128,), (64,)),
        '2 groups': Variant(partial(_conv, groups=2), (180,), (90,), 2),
        '4 groups': Variant(partial(_conv, groups=4), (256,), (128,), 4),
        '8 groups': Variant(partial(_conv, groups=8), (360,), (180,), 8),
    },
    'G3': {
        '1-fragment': _g3(1),
        '2-series': _g3(2),
        '4-series': _g3(4),
        '2-parallel': _g3(2, parallel=True),
        '4-parallel': _g3(4, parallel=True),
    },
    'G4': {
        'ReLU yes, shortcut yes': _g4(relu=True, shortcut=True),
        'ReLU yes, shortcut no': _g4(relu=True, shortcut=False),
        'ReLU no, shortcut yes': _g4(relu=False, shortcut=True),
        'ReLU no, shortcut no': _g4(relu=False, shortcut=False),
    },
}


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        guideline: ``'G1'`` to ``'G4'``.
        platform: whose channels, ``'gpu'`` or ``'arm'``.
        row: what the table calls the variant.
        scale: of the channels: the columns x1, x2 and x4.
    """

    guideline: str
    platform: str
    row: str
    scale: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the block, as the table gives them."""
        row = TABLES[self.guideline][self.row]
        return tuple(
            row.multiple * math.floor(c * self.scale / row.multiple + 0.5)
            for c in getattr(row, self.platform)
        )

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the network's input."""
        return (batch, self.channels[0], *SIZE)

    def build(self) -> nn.Sequential:
        """Blocks in series, with weights that keep the size of values."""
        block = TABLES[self.guideline][self.row].block
        network = nn.Sequential(
            *(block(*self.channels) for _ in range(BLOCKS))
        )
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


def cells(guideline: str, platform: str) -> list[Cell]:
    """The cells of one table, a scale after the other.

    Args:
        guideline: one of `TABLES`.
        platform: whose channels, ``'gpu'`` or ``'arm'``.
    """
    return [
        Cell(guideline, platform, row, scale)
        for scale in SCALES
        for row in TABLES[guideline]
    ]


def predict(cell: Cell, batch: int) -> tuple[int, int]:
    """Multiply-adds and memory access of a cell's network.

    Memory access, in elements, is that of `Convolution` and of element-wise
    operations, which read each operand and write the result.
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
        network = cell.build()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.empty(cell.shape(batch)))
    return flops, memory_access


def benchmarks(
    settings: Sequence[Setting],
    guidelines: Sequence[str] = (),
    batch: Sequence[int] | None = None,
    platform: str | None = None,
) -> list[Benchmark]:
    """Each cell, timed in turn with the first row of its scale.

    Args:
        settings: to measure each under.
        guidelines: ``'G1'`` to ``'G4'``; all by default.
        batch: images; by default 1, on a GPU 8 and 1.
        platform: whose channels; by default the paper's for such a device.
    """
    found = []
    for setting in settings:
        default = platform or ('gpu' if setting.on_gpu else 'arm')
        for images in batch or ([8, 1] if setting.on_gpu else [1]):
            for guideline in guidelines or TITLES:
                first, *_ = TABLES[guideline]
                for cell in cells(guideline, default):
                    other = replace(cell, row=first)
                    found.append(_benchmark(cell, other, images, setting))
    return found


def _benchmark(
    cell: Cell, first: Cell, batch: int, setting: Setting
) -> Benchmark:
    return Benchmark(
        key={
            'guideline': cell.guideline,
            'platform': cell.platform,
            'scale': f'x{cell.scale}',
            'row': cell.row,
            'channels': '-'.join(map(str, cell.channels)),
            'batch': batch,
        },
        setting=setting,
        measure=partial(
            _measure, cell=cell, first=first, batch=batch, setting=setting
        ),
        label=f'{cell.guideline} x{cell.scale} {cell.row}, batch {batch}, '
        f'{setting.precision}',
        cost=1 + cell.scale,
    )


def _measure(
    time: Time, cell: Cell, first: Cell, batch: int, setting: Setting
) -> list[Row]:
    def step(each: Cell) -> Callable[[], object]:
        torch.manual_seed(0)
        network = each.build().eval().requires_grad_(False)
        return inference(place(network, setting), each.shape(batch), setting)

    functions = {'first': step(first)}
    if cell != first:
        functions['cell'] = step(cell)
    times = time(functions)
    mine = times.get('cell', times['first'])
    columns = mine.columns()
    flops, memory_access = predict(cell, batch)
    _, first_access = predict(first, batch)
    return [
        {
            **columns,
            'per_s': significant(1e3 / columns['median_ms']),
            **compared('time_ratio', mine, times['first']),
            'memory_access_ratio': round(memory_access / first_access, 3),
            'flops_m': round(flops / batch / 1e6, 1),
        }
    ]


def summary(rows: Sequence[dict[str, str]]) -> list[str]:
    """One sentence for each guideline and setting: does it hold here?

    It holds at a scale where nine of ten rounds agree with it.
    """

    def kind(row: dict[str, str]) -> tuple[str, ...]:
        names = ('guideline', 'batch', 'precision', 'mode', 'layout')
        return tuple(row[name] for name in names)

    telling = [
        row
        for row in rows
        if row['status'] == 'ok' and row['row'] == TELLING[row['guideline']][0]
    ]
    return [
        _verdict(list(group))
        for _, group in groupby(sorted(telling, key=kind), kind)
    ]


def _verdict(rows: Sequence[dict[str, str]]) -> str:
    guideline = rows[0]['guideline']
    row, expected = TELLING[guideline]
    if expected == 'longer':
        holds = [float(r['time_ratio_p10']) > 1 for r in rows]
    else:
        holds = [float(r['time_ratio_p90']) < 1 for r in rows]
    at = [r['scale'] for r, held in zip(rows, holds, strict=True) if held]
    answer = f'holds here at {", ".join(at)} only' if at else 'does not hold'
    if all(holds):
        answer = 'holds here'

    def span(column: str) -> str:
        values = [float(r[column]) for r in rows if r[column]]
        if not values:
            return 'unknown'
        return f'{min(values):.2f} to {max(values):.2f}'

    return (
        f'{guideline} ({TITLES[guideline]}) {answer}: {row} takes '
        f'{span("time_ratio")} times the time of the first row (paper: '
        f'{span("paper_time_ratio")}; memory access: '
        f'{span("memory_access_ratio")}). Batch {rows[0]["batch"]}, '
        f'{rows[0]["precision"]}, {rows[0]["mode"]}.'
    )
