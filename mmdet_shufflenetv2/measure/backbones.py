"""Whole networks and stacked units, each beside ShuffleNet V2.

Table 8, Figure 1 (c) and (d), and Table 1 of the appendix (arXiv 1807.11164).

Units are stacked ten in series, at equal FLOPs. They keep size and channels;
ShuffleNet V2's has the channels of the table's column, the others have as
many as come closest to its FLOPs.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product

import torch
from mmdet.models.layers import InvertedResidual
from torch import nn

from ..backbones.layers import NORM_CFG
from ..backbones.shufflenet_v1 import ShuffleUnitV1
from ..backbones.shufflenet_v2 import ShuffleUnit
from ..backbones.xception import XceptionUnit
from ..backbones.zoo import build_classifier, network
from ..errors import UserError
from .benchmark import COUNTS, ENERGY, SIZE, Benchmark, Row, Time, size_text
from .memory import peak_mb
from .networks import inference, prepare
from .setting import Setting
from .speed import SPEEDS, speed
from .timing import Effort, significant

HELP = (
    'Table 8, Figure 1 (c) and (d), and Table 1 of the appendix: speed of '
    'whole networks and of stacked units'
)
EXAMPLE = '--device cuda --batch 1 8 --size 224x224 320x320'
THREADS, MODE = 1, 'folded'
EFFORT = Effort(min_runs=10, max_runs=100, seconds=6, warmup_seconds=4)
COLUMNS = (
    *('table', 'column', 'network', 'input', 'batch'),
    *SPEEDS,
    'paper_mflops',
)
Size = tuple[int, int]

# Networks by column of complexity, ShuffleNet V2 first.
_TABLE8 = {
    '40M': 'shufflenet_v2_x0_5 mobilenet_v1_x0_25 mobilenet_v2_x0_4 '
    'mobilenet_v2_x0_15 shufflenet_v1_x0_5_g3 densenet_x0_5 xception_x0_5 '
    'igcv2_0_25',
    '140M': 'shufflenet_v2_x1_0 mobilenet_v1_x0_5 mobilenet_v2_x0_75 '
    'mobilenet_v2_x0_6 shufflenet_v1_x1_0_g3 densenet_x1_0 xception_x1_0 '
    'igcv2_0_5 igcv3_d_0_7',
    '300M': 'shufflenet_v2_x1_5 mobilenet_v1_x0_75 mobilenet_v2_x1_0 '
    'shufflenet_v1_x1_5_g3 densenet_x1_5 condensenet_g8_c8 xception_x1_5 '
    'igcv3_d_1_0',
    '500M': 'shufflenet_v2_x2_0 mobilenet_v1_x1_0 mobilenet_v2_x1_4 '
    'shufflenet_v1_x2_0_g3 densenet_x2_0 condensenet_g4_c4 xception_x2_0 '
    'igcv2_1_0 igcv3_d_1_4 se_shufflenet_v2_x2_0 nasnet_a_4_1056 pnasnet_5',
}
TABLE8 = {column: names.split() for column, names in _TABLE8.items()}
# Large networks, of which the paper has no speed and no columns.
TABLE6 = [
    *('shufflenet_v2_50', 'shufflenet_v1_50_g3', 'resnet_50'),
    *('se_shufflenet_v2_164', 'senet'),
]
# Table 1a of the appendix names families; these are their networks by column.
# MobileNet V2 has two near 40 and 140 MFLOPs: those for 224x224 are meant
# where the size of the image is given.
_FAMILIES = {
    'shufflenet_v2': 'x0_5 x1_0 x1_5 x2_0',
    'shufflenet_v1': 'x0_5_g3 x1_0_g3 x1_5_g3 x2_0_g3',
    'mobilenet_v2': 'x0_15 x0_6 x1_0 x1_4',
    'xception': 'x0_5 x1_0 x1_5 x2_0',
}
FAMILIES = {
    family: [f'{family}_{width}' for width in widths.split()]
    for family, widths in _FAMILIES.items()
}
# The size that stands for each network's own.
OWN_SIZE = (224, 224)
SIZES = [OWN_SIZE, (320, 320), (640, 480), (1080, 720)]
# Each family's unit, and its channels in the columns of Table 1b: those that
# come closest to ShuffleNet V2's FLOPs. ShuffleNet V1's groups and bottleneck
# leave multiples of 12, Xception's those of 4.
UNITS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    'shufflenet_v2': (lambda c: ShuffleUnit(c, c), (64, 128, 256)),
    'shufflenet_v1': (
        lambda c: ShuffleUnitV1(c, c, groups=(3, 3)),
        (108, 228, 444),
    ),
    'mobilenet_v2': (
        lambda c: InvertedResidual(
            c,
            c,
            mid_channels=6 * c,
            norm_cfg=NORM_CFG,
            act_cfg=dict(type='ReLU6', inplace=True),
        ),
        (12, 25, 51),
    ),
    'xception': (lambda c: XceptionUnit(c, c), (56, 120, 248)),
}
UNIT_COUNT = 10
UNIT_SIZES = [(56, 56), (28, 28)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which networks and units to measure, and on what."""
    add = parser.add_argument
    sizes, units = (
        ' '.join(map(size_text, sizes)) for sizes in (SIZES, UNIT_SIZES)
    )
    text = "224x224 means each network's own, as in Table 8; default: "
    add('--size', **SIZE, nargs='+', default=SIZES, help=text + sizes)
    add('--batch', **COUNTS, help="default: the paper's")
    text = (
        'published names, such as shufflenet_v2_x1_0; default: those of '
        'Table 8 and, at other sizes, of Table 1 of the appendix'
    )
    add('--network', nargs='+', metavar='NAME', help=text)
    text = (
        'maps that ten units are stacked on, as in Table 1b of the appendix; '
        'nothing after it: none; default: '
    )
    add('--units', **SIZE, nargs='*', default=UNIT_SIZES, help=text + units)
    text = 'a second per network on a GPU that counts it'
    add('--energy', **ENERGY, help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Networks of each size, then stacked units, each with its reference.

    Raises:
        UserError: there is no such network.
    """
    found = []
    for setting in settings:
        rows = []
        for size in args.size:
            for name in args.network or _paper_networks(size):
                own = [_paper_batch(size, place_of(name, size)[1], setting)]
                for batch in args.batch or own:
                    rows.append(_of_network(name, size, batch))
        batches = args.batch or [8 if setting.on_gpu else 1]
        for row in product(batches, args.units, range(3), UNITS):
            rows.append(_of_units(*row))
        found += [_benchmark(*row, setting, args.energy) for row in rows]
    return found


def _paper_networks(size: Size) -> list[str]:
    """Those of the paper's table at a size, a column after the other."""
    columns = TABLE8.values()
    if size != OWN_SIZE:
        columns = zip(*FAMILIES.values(), strict=True)
    return [name for names in columns for name in names]


def _paper_batch(size: Size, column: str, setting: Setting) -> int:
    small = size == OWN_SIZE or (size, column) == ((320, 320), '40M')
    return 8 if setting.on_gpu and small else 1


def place_of(name: str, size: Size) -> tuple[str, str, str]:
    """The table, the column and the reference of a network.

    Empty for a network of which the paper has no table at this size, or no
    column; such a one is compared with nothing.
    """
    columns = {**TABLE8, 'Table 6': TABLE6}
    plain = name.replace('_star', '')
    column = next((c for c, names in columns.items() if plain in names), '')
    reference = columns[column][0] if column else ''
    table = ''
    if name in _paper_networks(size):
        table = 'Table 8' if size == OWN_SIZE else 'Appendix Table 1a'
    elif name in TABLE6 and size == OWN_SIZE:
        table = 'Table 6'
    return table, column, reference


# A network or a family of `UNITS`, and the (N, C, H, W) of its input.
Competitor = tuple[str, tuple[int, int, int, int]]


def _of_network(
    name: str, size: Size, batch: int
) -> tuple[Row, Competitor, Competitor | None]:
    """The key of a network, it and its reference."""

    def competitor(each: str) -> Competitor:
        try:
            own = (network(each).input_size,) * 2
        except ValueError as error:
            raise UserError(str(error)) from error
        width, height = own if size == OWN_SIZE else size
        return each, (batch, 3, height, width)

    table, column, reference = place_of(name, size)
    key = {'table': table, 'column': column, 'network': name}
    other = competitor(reference) if reference else None
    return key, competitor(name), other


def _of_units(
    batch: int, size: Size, column: int, family: str
) -> tuple[Row, Competitor, Competitor]:
    """The key of stacked units, they and their reference."""
    mine, reference = (
        (each, (batch, UNITS[each][1][column], *reversed(size)))
        for each in (family, 'shufflenet_v2')
    )
    key = {
        'table': 'Appendix Table 1b',
        'column': f'c{reference[1][1]}',
        'network': f'{UNIT_COUNT} units of {family}, {mine[1][1]} channels',
    }
    return key, mine, reference


def _benchmark(
    key: Row,
    mine: Competitor,
    reference: Competitor | None,
    setting: Setting,
    energy: bool,
) -> Benchmark:
    _, shape = mine
    batch, _, height, width = shape

    def measure(time: Time) -> list[Row]:
        both = [each for each in (reference, mine) if each]
        networks = {each: _prepared(each, setting) for each in both}
        runs = {
            each: inference(networks[each], each[1], setting) for each in both
        }
        times, which, run = time(runs), networks[mine], runs[mine]
        pair = times[mine], times.get(reference)
        row = speed(*pair, batch, which, run, setting, energy)
        if setting.mode == 'graph':
            # A graph's maps are not the allocator's, those of its pass are.
            run = inference(which, shape, replace(setting, mode='eager'))
            row['peak_mb'] = significant(peak_mb(run, setting.device))
        return [row]

    key = {**key, 'input': size_text((width, height)), 'batch': batch}
    return Benchmark(key, setting, measure)


# A reference stays, for it is everybody's in its column.
@lru_cache(maxsize=2)
def _prepared(each: Competitor, setting: Setting) -> nn.Module:
    name, (_, channels, *_) = each
    # The same weights for a network, whatever was built before it.
    torch.manual_seed(0)
    with torch.device(setting.device):
        if name not in UNITS:
            return prepare(build_classifier(name), setting)
        build, _ = UNITS[name]
        units = nn.Sequential(*(build(channels) for _ in range(UNIT_COUNT)))
    return prepare(units, setting, (8, channels, 14, 14))
