"""Whole networks and stacked units, each beside ShuffleNet V2.

Table 8, Figure 1 (c) and (d), and Table 1 of the appendix (arXiv 1807.11164).

Units are stacked ten in series, at equal FLOPs. They keep size and channels;
ShuffleNet V2's has the channels of the table's column, the others have as
many as come closest to its FLOPs.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from mmdet.models.layers import InvertedResidual
from torch import nn

from ..backbones.layers import NORM_CFG
from ..backbones.shufflenet_v1 import ShuffleUnitV1
from ..backbones.shufflenet_v2 import ShuffleUnit
from ..backbones.xception import XceptionUnit
from ..backbones.zoo import build_classifier, network
from ..errors import UserError
from .benchmark import Benchmark
from .flops import macs
from .setting import Setting
from .speed import SPEEDS, Network, measure_network
from .timing import Effort

HELP = (
    'Table 8, Figure 1 (c) and (d), and Table 1 of the appendix: speed of '
    'whole networks and of stacked units'
)
EXAMPLE = '--device cuda --batch 1 8 --size 224x224 320x320'
THREADS, MODE = 1, 'folded'
EFFORT = Effort(min_runs=10, max_runs=100, seconds=6, warmup_seconds=4)
COLUMNS = (
    'table',
    'column',
    'network',
    'input',
    'batch',
    *SPEEDS,
    'paper_mflops',
)
Size = tuple[int, int]

# The first of a column is what the others are compared with.
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
TABLE6 = (
    'shufflenet_v2_50',
    'shufflenet_v1_50_g3',
    'resnet_50',
    'se_shufflenet_v2_164',
    'senet',
)
# Table 1a of the appendix names families; these are their networks by column.
# MobileNet V2 has two near 40 and 140 MFLOPs: those for 224x224 are meant
# where the size of the image is given.
FAMILIES = {
    'shufflenet_v2': tuple(names[0] for names in TABLE8.values()),
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
# The size that stands for each network's own.
OWN_SIZE = (224, 224)
SIZES = (OWN_SIZE, (320, 320), (640, 480), (1080, 720))
UNITS = 10
UNIT_CHANNELS = (64, 128, 256)
UNIT_SIZES = ((56, 56), (28, 28))


def column_of(name: str) -> str:
    """The column of complexity of a network, or 'Table 6'.

    Empty for a network of which the paper has no table.
    """
    name = name.replace('_star', '')
    columns = {**TABLE8, 'Table 6': TABLE6}
    return next((c for c, names in columns.items() if name in names), '')


def reference_of(name: str) -> str | None:
    """The ShuffleNet V2 that a network is compared with, if any."""
    columns = {**TABLE8, 'Table 6': TABLE6}
    return columns.get(column_of(name), [None])[0]


def table_of(name: str, size: Size) -> str:
    """The paper's table that has a network at a size, if any."""
    if size != OWN_SIZE:
        in_appendix = any(name in names for names in FAMILIES.values())
        return 'Appendix Table 1a' if in_appendix else ''
    if name in TABLE6:
        return 'Table 6'
    in_table = any(name in names for names in TABLE8.values())
    return 'Table 8' if in_table else ''


def paper_batch(size: Size, column: str, on_gpu: bool) -> int:
    """Images per batch of the paper's own measurement."""
    smallest = (size, column) == ((320, 320), '40M')
    return 8 if on_gpu and (size == OWN_SIZE or smallest) else 1


def choose(names: Sequence[str] | None, size: Size) -> list[str]:
    """The networks to measure at a size, a column after the other.

    Args:
        names: those asked for; None means the paper's.
        size: width and height; `OWN_SIZE` means each network's own.

    Raises:
        UserError: there is no such network.
    """
    for name in names or ():
        try:
            network(name)
        except ValueError as error:
            raise UserError(str(error)) from error
    columns = TABLE8.values()
    if size != OWN_SIZE:
        columns = zip(*FAMILIES.values(), strict=True)
    return list(names or (name for names in columns for name in names))


def benchmarks(
    settings: Sequence[Setting],
    size: Sequence[Size] = SIZES,
    batch: Sequence[int] | None = None,
    network: Sequence[str] | None = None,
    units: Sequence[Size] = UNIT_SIZES,
    energy: bool = True,
) -> list[Benchmark]:
    """Networks of each size, then stacked units, each with its reference.

    Args:
        settings: to measure each under.
        size: width and height of images; `OWN_SIZE` means each network's own.
        batch: images; the paper's by default.
        network: published names; by default those of the paper's table.
        units: sizes of the maps that units are stacked on.
        energy: whether to measure it where there is a counter.
    """
    found = []
    for setting in settings:
        for each in size:
            for name in choose(network, each):
                own = [paper_batch(each, column_of(name), setting.on_gpu)]
                for images in batch or own:
                    found.append(_network(name, each, images, setting, energy))
        for images in batch or [8 if setting.on_gpu else 1]:
            for each in units:
                for column in UNIT_CHANNELS:
                    for family in UNIT:
                        found.append(
                            _units(
                                family, column, each, images, setting, energy
                            )
                        )
    return found


def _network(
    name: str, size: Size, batch: int, setting: Setting, energy: bool
) -> Benchmark:
    def shown(each: str) -> Size:
        return (network(each).input_size,) * 2 if size == OWN_SIZE else size

    def subject(each: str) -> Network:
        width, height = shown(each)
        shape = (batch, 3, height, width)
        return Network(each, partial(build_classifier, each), shape)

    reference = reference_of(name)
    return _benchmark(
        table=table_of(name, size),
        column=column_of(name),
        mine=subject(name),
        reference=subject(reference) if reference else None,
        setting=setting,
        energy=energy,
    )


def _units(
    family: str,
    column: int,
    size: Size,
    batch: int,
    setting: Setting,
    energy: bool,
) -> Benchmark:
    def subject(each: str) -> Network:
        channels = channels_of(each, column)
        build, _ = UNIT[each]
        return Network(
            f'{UNITS} units of {each}, {channels} channels',
            lambda: nn.Sequential(*(build(channels) for _ in range(UNITS))),
            (batch, channels, *reversed(size)),
            (8, channels, 14, 14),
        )

    return _benchmark(
        table='Appendix Table 1b',
        column=f'c{column}',
        mine=subject(family),
        reference=subject('shufflenet_v2'),
        setting=setting,
        energy=energy,
    )


def _benchmark(
    table: str,
    column: str,
    mine: Network,
    reference: Network | None,
    setting: Setting,
    energy: bool,
) -> Benchmark:
    batch, _, height, width = mine.shape
    key = {
        'table': table,
        'column': column,
        'network': mine.name,
        'input': f'{width}x{height}',
        'batch': batch,
    }
    # Of the whole networks; a large one is taken for two of the last column.
    mflops = {c: int(c[:-1]) for c in TABLE8}.get(column, 1000)
    images = batch * width * height / 224**2 if table[-1:] != 'b' else 1
    return Benchmark(
        key,
        setting,
        partial(
            measure_network,
            mine=mine,
            reference=reference,
            setting=setting,
            with_energy=energy,
        ),
        label=f'{mine.name} {key["input"]}, batch {batch}, '
        f'{setting.precision}, {setting.mode}',
        cost=1 + images * mflops / 1000,
    )


def _v2_unit(channels: int) -> nn.Module:
    return ShuffleUnit(channels, channels)


def _v1_unit(channels: int) -> nn.Module:
    return ShuffleUnitV1(channels, channels, groups=(3, 3))


def _mobilenet_v2_unit(channels: int) -> nn.Module:
    return InvertedResidual(
        channels,
        channels,
        mid_channels=6 * channels,
        norm_cfg=NORM_CFG,
        act_cfg=dict(type='ReLU6', inplace=True),
    )


def _xception_unit(channels: int) -> nn.Module:
    return XceptionUnit(channels, channels)


# How to build a family's unit, and what its channels are multiples of.
UNIT: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    'shufflenet_v2': (_v2_unit, 2),
    'shufflenet_v1': (_v1_unit, 12),
    'mobilenet_v2': (_mobilenet_v2_unit, 1),
    'xception': (_xception_unit, 4),
}


@cache
def unit_macs(family: str, channels: int) -> int:
    """Multiply-adds of a unit for one place of its map."""
    build, _ = UNIT[family]
    with torch.device('meta'):
        unit, x = build(channels).eval(), torch.empty(1, channels, 8, 8)
    return macs(unit, x) // 64


@cache
def channels_of(family: str, column: int) -> int:
    """Channels with which a unit comes closest to ShuffleNet V2's FLOPs.

    Args:
        family: one of `UNIT`.
        column: channels of ShuffleNet V2.
    """
    wanted = unit_macs('shufflenet_v2', column)
    _, multiple = UNIT[family]
    multiples = range(multiple, 4 * column, multiple)
    above = bisect(multiples, wanted, key=partial(unit_macs, family))
    return min(
        multiples[above - 1 : above + 1],
        key=lambda each: abs(unit_macs(family, each) - wanted),
    )
