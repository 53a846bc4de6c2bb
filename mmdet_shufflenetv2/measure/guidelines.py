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
from dataclasses import dataclass
from functools import partial
from itertools import groupby

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
SHOWN = {
    '': 'guideline',
    'scale': 'scale',
    'variant': 'row',
    'channels': 'channels',
    'batch': 'batch',
    'ms': 'median_ms',
    'per s': 'per_s',
    'paper per s': 'paper_per_s',
    'time, first row = 1': 'time_ratio',
    'p10': 'time_ratio_p10',
    'p90': 'time_ratio_p90',
    'paper': 'paper_time_ratio',
    'memory access': 'memory_access_ratio',
    'warning': 'warning',
}

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


def _conv(before: int, after: int, kernel: int = 1, groups: int = 1):
    padding = kernel // 2
    return nn.Conv2d(
        before, after, kernel, padding=padding, groups=groups, bias=False
    )


def _pair(first: int, second: int) -> nn.Module:
    return nn.Sequential(_conv(first, second), _conv(second, first))


def _grouped(channels: int, groups: int) -> nn.Module:
    return _conv(channels, channels, groups=groups)


def _series(channels: int, fragments: int) -> nn.Module:
    layers = (_conv(channels, channels) for _ in range(fragments))
    return nn.Sequential(*layers)


def _parallel(channels: int, fragments: int) -> nn.Module:
    return Sum(*_series(channels, fragments))


def _bottleneck(channels: int, relu: bool, shortcut: bool) -> nn.Module:
    def act() -> list[nn.Module]:
        return [nn.ReLU(inplace=True)] if relu else []

    inner = channels // 4
    layers = nn.Sequential(
        _conv(channels, inner),
        *act(),
        _conv(inner, inner, 3),
        *act(),
        _conv(inner, channels),
    )
    return nn.Sequential(Sum(layers, None) if shortcut else layers, *act())


# By table and platform: a row's name, its channels at x1, its block, and
# what channels are rounded to. The first row is what others are compared
# with.
_G2 = {'gpu': (128, 180, 256, 360), 'arm': (64, 90, 128, 180)}
_WHOLE = {'gpu': 128, 'arm': 64}


def _rows(guideline: str, platform: str) -> list[tuple]:
    if guideline == 'G1':
        channels = {
            'gpu': ((128, 128), (90, 180), (52, 312), (36, 432)),
            'arm': ((32, 32), (22, 44), (13, 78), (9, 108)),
        }[platform]
        names = '1:1', '1:2', '1:6', '1:12'
        return [
            (name, pair, _pair, 1)
            for name, pair in zip(names, channels, strict=True)
        ]
    if guideline == 'G2':
        return [
            (
                f'{groups} group{"s" * (groups > 1)}',
                (channels,),
                partial(_grouped, groups=groups),
                groups,
            )
            for groups, channels in zip(
                (1, 2, 4, 8), _G2[platform], strict=True
            )
        ]
    if guideline == 'G3':
        return [
            (
                f'{number}-{name}',
                (_WHOLE[platform] / math.sqrt(number),),
                partial(block, fragments=number),
                1,
            )
            for number, name, block in (
                (1, 'fragment', _series),
                (2, 'series', _series),
                (4, 'series', _series),
                (2, 'parallel', _parallel),
                (4, 'parallel', _parallel),
            )
        ]
    words = {True: 'yes', False: 'no'}
    return [
        (
            f'ReLU {words[relu]}, shortcut {words[shortcut]}',
            (32,),
            partial(_bottleneck, relu=relu, shortcut=shortcut),
            1,
        )
        for relu in (True, False)
        for shortcut in (True, False)
    ]


@dataclass(frozen=True)
class Cell:
    """One cell of Tables 1 to 4.

    Attributes:
        guideline: ``'G1'`` to ``'G4'``.
        platform: whose widths, ``'gpu'`` or ``'arm'``.
        row: what the table calls the variant.
        scale: the columns x1, x2 and x4; channels are multiplied by it.
        channels: of the block, as the table gives them.
        block: makes one, of these channels.
    """

    guideline: str
    platform: str
    row: str
    scale: int
    channels: tuple[int, ...]
    block: Callable[..., nn.Module]

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the network's input."""
        return (batch, self.channels[0], *SIZE)

    def build(self) -> nn.Sequential:
        """Blocks in series, with weights that keep the size of values."""
        network = nn.Sequential(
            *(self.block(*self.channels) for _ in range(BLOCKS))
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

    The first of a scale is what the others are compared with.

    Args:
        guideline: one of `TITLES`.
        platform: whose channels, ``'gpu'`` or ``'arm'``.
    """
    return [
        Cell(
            guideline,
            platform,
            name,
            scale,
            tuple(
                multiple * math.floor(c * scale / multiple + 0.5)
                for c in channels
            ),
            block,
        )
        for scale in SCALES
        for name, channels, block, multiple in _rows(guideline, platform)
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
                first = None
                for cell in cells(guideline, default):
                    if first is None or cell.scale != first.scale:
                        first = cell
                    found.append(_benchmark(cell, first, images, setting))
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
    if cell is not first:
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
