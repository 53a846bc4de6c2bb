"""Speed of whole networks and of stacked units, relative to ShuffleNet V2.

Table 8, Figure 1 (c) and (d), and Table 1 of the appendix (arXiv 1807.11164).

Stacks are ten units in series, which keep size and channels. ShuffleNet V2's
units have the channels of the table's column, and the others as many as come
closest to the same FLOPs.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
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
from .published import columns
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
# This size means each network's own input size.
OWN_SIZE = (224, 224)
SIZES = [OWN_SIZE, (320, 320), (640, 480), (1080, 720)]
# Each family's unit and its channels per column of Table 1b, chosen to come
# closest to ShuffleNet V2's FLOPs. ShuffleNet V1 needs multiples of 12 (groups
# and bottleneck), Xception multiples of 4.
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
    """Add the options that select networks, units and their input."""
    add = parser.add_argument
    sizes, units = (
        ' '.join(map(size_text, sizes)) for sizes in (SIZES, UNIT_SIZES)
    )
    text = "224x224: each network's own size, as in Table 8; default: "
    add('--size', **SIZE, nargs='+', default=SIZES, help=text + sizes)
    add('--batch', **COUNTS, help="default: the paper's")
    text = (
        'names such as shufflenet_v2_x1_0; default: the networks of Table 8 '
        'and, at other sizes, of Table 1 of the appendix'
    )
    add('--network', nargs='+', metavar='NAME', help=text)
    text = (
        'map sizes for stacks of ten units, as in Table 1b of the appendix; '
        'give no size to skip the stacks; default: '
    )
    add('--units', **SIZE, nargs='*', default=UNIT_SIZES, help=text + units)
    text = 'measure joules on a GPU that counts them, a second per network'
    add('--energy', **ENERGY, help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Networks at each size, then stacked units, each with its reference.

    Raises:
        UserError: a network is unknown.
    """
    found = []
    for setting in settings:
        for cases in _whole_networks, _stacked_units:
            for key, *both in cases(args, setting.on_gpu):
                _, (batch, *_, height, width) = both[0]
                key |= {'input': size_text((width, height)), 'batch': batch}
                measure = partial(_measure, *both, setting, args.energy)
                found.append(Benchmark(key, setting, measure))
    return found


# A network or a family of `UNITS`, and the shape (N, C, H, W) of its input.
Competitor = tuple[str, tuple[int, int, int, int]]
# A key, the competitor it belongs to, and the reference if there is one.
Entry = tuple[Row, Competitor, Competitor | None]


def _whole_networks(args: argparse.Namespace, on_gpu: bool) -> Iterator[Entry]:
    for size in args.size:
        for name in args.network or _networks(_tables(size)[0]):
            table, column, reference = place_of(name, size)
            small = size == OWN_SIZE or (size, column) == ((320, 320), '40M')
            for batch in args.batch or [8 if on_gpu and small else 1]:
                key = {'table': table, 'column': column, 'network': name}
                mine, other = (
                    (each, (batch, 3, *_input(each, size))) if each else None
                    for each in (name, reference)
                )
                yield key, mine, other


def _stacked_units(args: argparse.Namespace, on_gpu: bool) -> Iterator[Entry]:
    for batch, size, at, family in product(
        args.batch or [8 if on_gpu else 1], args.units, range(3), UNITS
    ):
        mine, reference = (
            (each, (batch, UNITS[each][1][at], *reversed(size)))
            for each in (family, 'shufflenet_v2')
        )
        key = {
            'table': 'Appendix Table 1b',
            'column': f'c{reference[1][1]}',
            'network': f'{UNIT_COUNT} units of {family}, {mine[1][1]} '
            'channels',
        }
        yield key, mine, reference


def _tables(size: Size) -> list[str]:
    """The paper's tables of networks at a size, the one of speeds first."""
    own = size == OWN_SIZE
    return ['Table 8', 'Table 6'] if own else ['Appendix Table 1a']


def _networks(table: str) -> list[str]:
    return [name for names in columns(table).values() for name in names]


def place_of(name: str, size: Size) -> tuple[str, str, str]:
    """Return the table, the column and the reference of a network.

    They are empty where the paper has none for this network and size; a
    network without a reference is not compared.
    """
    table = next((t for t in _tables(size) if name in _networks(t)), '')
    plain = name.replace('_star', '')
    for column, names in {**columns('Table 8'), **columns('Table 6')}.items():
        if plain in names:
            return table, column, names[0]
    return table, '', ''


def _input(name: str, size: Size) -> tuple[int, int]:
    """Height and width of a network's input."""
    try:
        own = network(name).input_size
    except ValueError as error:
        raise UserError(str(error)) from error
    return (own, own) if size == OWN_SIZE else size[::-1]


def _measure(
    mine: Competitor,
    reference: Competitor | None,
    setting: Setting,
    energy: bool,
    time: Time,
) -> list[Row]:
    def build(
        each: Competitor, mode: str = setting.mode
    ) -> tuple[nn.Module, Callable[[], object]]:
        network, (_, shape) = _prepared(each, setting), each
        return network, inference(network, shape, replace(setting, mode=mode))

    batch, *_ = mine[1]
    row = speed(time, build, mine, reference, batch, setting, energy)
    if setting.mode == 'graph':
        # Replaying a graph allocates nothing, so measure an eager pass.
        _, run = build(mine, 'eager')
        row['peak_mb'] = significant(peak_mb(run, setting.device))
    return [row]


# Two entries, so that the reference of a column stays cached.
@lru_cache(maxsize=2)
def _prepared(each: Competitor, setting: Setting) -> nn.Module:
    name, (_, channels, *_) = each
    # A network's weights must not depend on what was built before.
    torch.manual_seed(0)
    with torch.device(setting.device):
        if name not in UNITS:
            return prepare(build_classifier(name), setting)
        build, _ = UNITS[name]
        units = nn.Sequential(*(build(channels) for _ in range(UNIT_COUNT)))
    return prepare(units, setting, (8, channels, 14, 14))
