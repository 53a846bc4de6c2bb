"""Whole networks: Table 8, Figure 1 (c) and (d), Table 1a of the appendix."""

import argparse
from collections.abc import Sequence
from functools import partial

from ..backbones.zoo import NETWORKS, build_classifier, network
from ..engine.argument_types import image_size, positive_int
from ..engine.run_config import UsageError
from ..paper.published import classification_results, published_results
from . import stacked_units
from .command import Command, effort, settings
from .session import Case, Row
from .setting import Setting
from .speed import SPEEDS, Subject, compare_networks, paper_columns
from .timing import Effort

COLUMNS = ('40M', '140M', '300M', '500M')
# A table of the appendix names families; these are their networks by column.
# MobileNet V2 has two near 40 and 140 MFLOPs: those for 224x224 are meant
# where the size of the image is given.
FAMILIES = {
    'shufflenet_v2': tuple(
        f'shufflenet_v2_{x}' for x in ('x0_5', 'x1_0', 'x1_5', 'x2_0')
    ),
    'shufflenet_v1': tuple(
        f'shufflenet_v1_{x}_g3' for x in ('x0_5', 'x1_0', 'x1_5', 'x2_0')
    ),
    'mobilenet_v2': tuple(
        f'mobilenet_v2_{x}' for x in ('x0_15', 'x0_6', 'x1_0', 'x1_4')
    ),
    'xception': tuple(
        f'xception_{x}' for x in ('x0_5', 'x1_0', 'x1_5', 'x2_0')
    ),
}
REFERENCES = dict(zip(COLUMNS, FAMILIES['shufflenet_v2'], strict=True))
# What networks of Table 6, which has no columns, are compared with.
LARGE, LARGE_REFERENCE = 'Table 6', 'shufflenet_v2_50'
# The size that stands for each network's own.
OWN_SIZE = (224, 224)
SIZES = (OWN_SIZE, (320, 320), (640, 480), (1080, 720))


def column_of(name: str) -> str:
    """The column of complexity that a network belongs to, or Table 6.

    Empty for a network of neither.
    """
    result = classification_results().get(name.replace('_star', ''))
    return result.complexity or LARGE if result else ''


def reference_of(name: str) -> str | None:
    """The network that a network is compared with: ShuffleNet V2.

    None for a network of which the paper has no table.
    """
    return {**REFERENCES, LARGE: LARGE_REFERENCE}.get(column_of(name))


def table_of(name: str, size: Sequence[int]) -> str:
    """The paper's table that has a network's speed at a size, or nothing."""
    if tuple(size) == OWN_SIZE:
        if name not in classification_results():
            return ''
        return LARGE if column_of(name) == LARGE else 'Table 8'
    known = any(name in names for names in FAMILIES.values())
    return 'Appendix Table 1a' if known else ''


def paper_batch(size: Sequence[int], column: str, on_gpu: bool) -> int:
    """Images per batch of the paper's own measurement."""
    own = tuple(size) == OWN_SIZE
    smallest = (tuple(size), column) == ((320, 320), '40M')
    return 8 if on_gpu and (own or smallest) else 1


def paper_per_s(
    name: str, size: Sequence[int], batch: int, on_gpu: bool
) -> float | None:
    """Published batches (ARM: images) per second; None if there are none."""
    column = column_of(name)
    if batch != paper_batch(size, column, on_gpu):
        return None
    if tuple(size) == OWN_SIZE:
        result = classification_results().get(name)
        if result is None:
            return None
        if on_gpu:
            return result.gpu_batches_per_s
        return result.arm_images_per_s
    table = published_results()['appendix_table1a'].get(_text(size), {})
    for family, names in FAMILIES.items():
        if name in names and family in table:
            speeds = table[family]['gpu' if on_gpu else 'cpu']
            return speeds[names.index(name)]
    return None


def _text(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))


def choose(names: Sequence[str] | None, size: Sequence[int]) -> list[str]:
    """The networks to measure at a size.

    Args:
        names: those asked for; None means the paper's.
        size: width and height; `OWN_SIZE` means each network's own.

    Raises:
        UsageError: there is no such network.
    """
    for name in names or ():
        try:
            network(name)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if names is None and tuple(size) == OWN_SIZE:
        names = [n for n in classification_results() if column_of(n) != LARGE]
    elif names is None:
        # One column after the other.
        names = [
            n for row in zip(*FAMILIES.values(), strict=True) for n in row
        ]
    return [name for name in names if name in NETWORKS]


def _subject(name: str, size: tuple[int, int], batch: int) -> Subject:
    width, height = _own(name, size)
    return Subject(
        name, partial(build_classifier, name), (batch, 3, height, width)
    )


def _measure(
    name: str,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    effort: Effort,
    with_energy: bool,
) -> list[Row]:
    reference = reference_of(name)
    row = compare_networks(
        _subject(name, size, batch),
        _subject(reference, size, batch) if reference else None,
        setting,
        effort,
        with_energy,
    )
    papers = (
        each and paper_per_s(each, size, batch, setting.on_gpu)
        for each in (name, reference)
    )
    result = classification_results().get(name)
    return [
        {
            **row,
            **paper_columns(*papers),
            'paper_mflops': result.mflops if result else '',
        }
    ]


def _own(name: str, size: tuple[int, int]) -> tuple[int, int]:
    if size == OWN_SIZE:
        side = network(name).input_size
        return side, side
    return size


def cases(args: argparse.Namespace) -> list[Case]:
    """One case for each network, size and batch, with its reference."""
    found = []
    for setting in settings(args):
        for size in args.size:
            for name in choose(args.network, size):
                column = column_of(name)
                default = [paper_batch(size, column, setting.on_gpu)]
                for batch in args.batch or default:
                    found.append(
                        _case(name, column, size, batch, setting, args)
                    )
        default = [8 if setting.on_gpu else 1]
        for batch in args.batch or default:
            found += stacked_units.cases(
                args.units, batch, setting, effort(args), args.energy
            )
    return found


def _case(
    name: str,
    column: str,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    args: argparse.Namespace,
) -> Case:
    width, height = _own(name, size)
    result = classification_results().get(name)
    gflops = (result.mflops if result else 1000) / 1e3
    scale = width * height * batch / network(name).input_size ** 2
    return Case(
        key={
            'table': table_of(name, size),
            'column': column,
            'network': name,
            'input': _text((width, height)),
            'batch': batch,
        },
        setting=setting,
        measure=partial(
            _measure, name, size, batch, setting, effort(args), args.energy
        ),
        label=f'{name} {width}x{height}, batch {batch}, '
        f'{setting.precision}, {setting.mode}',
        cost=1 + gflops * scale,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--size',
        nargs='+',
        type=image_size,
        default=list(SIZES),
        metavar='WIDTHxHEIGHT',
        help="224x224 means each network's own, as in Table 8; default: "
        + ' '.join(map(_text, SIZES)),
    )
    parser.add_argument(
        '--batch', nargs='+', type=positive_int, help="default: the paper's"
    )
    parser.add_argument(
        '--network',
        nargs='+',
        metavar='NAME',
        help='published names, such as shufflenet_v2_x1_0; default: those of '
        'Table 8 and, at other sizes, of Table 1 of the appendix',
    )
    parser.add_argument(
        '--units',
        nargs='*',
        type=image_size,
        default=list(stacked_units.SIZES),
        metavar='WIDTHxHEIGHT',
        help='maps that ten units are stacked on, as in Table 1b of the '
        'appendix; nothing behind it: none; default: '
        + ' '.join(map(_text, stacked_units.SIZES)),
    )
    parser.add_argument(
        '--energy',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='a second per network on a GPU that counts it',
    )


COMMAND = Command(
    name='backbones',
    help='Table 8, Figure 1 (c) and (d), and Table 1 of the appendix: '
    'speed of whole networks and of stacked units',
    example='--device cuda --batch 1 8 --size 224x224 320x320',
    columns=(
        'table',
        'column',
        'network',
        'input',
        'batch',
        *SPEEDS,
        'paper_mflops',
    ),
    shown={
        'column': 'column',
        'network': 'network',
        'input': 'input',
        'batch': 'batch',
        'ms': 'median_ms',
        'images/s': 'images_per_s',
        'paper batches/s': 'paper_per_s',
        'speed, ShuffleNet V2 = 1': 'speed_ratio',
        'p10': 'speed_ratio_p10',
        'p90': 'speed_ratio_p90',
        'paper': 'paper_speed_ratio',
        'peak MB': 'peak_mb',
        'J': 'joules',
        'doubt': 'doubt',
    },
    cases=cases,
    add_arguments=add_arguments,
    threads=1,
    modes=('folded',),
    effort=Effort(min_runs=10, max_runs=100, seconds=6, warmup_seconds=4),
)
