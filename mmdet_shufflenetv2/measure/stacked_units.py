"""Ten units in series at equal FLOPs: Table 1b of the appendix.

A unit keeps size and channels. ShuffleNet V2's has the channels of the
table's column; the others have as many as come closest to its FLOPs.
"""

from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from mmdet.models.layers import InvertedResidual
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..backbones.layers import ACT_CFG, NORM_CFG
from ..backbones.shufflenet_v1 import STYLES, ShuffleUnitV1
from ..backbones.shufflenet_v2 import ShuffleUnit
from ..backbones.xception import XceptionUnit
from ..paper.published import published_results
from .session import Case, Row
from .setting import Setting
from .speed import Subject, compare_networks, paper_columns
from .timing import Effort

UNITS = 10
CHANNELS = (64, 128, 256)
SIZES = ((56, 56), (28, 28))
REFERENCE = 'shufflenet_v2'


@dataclass(frozen=True)
class Family:
    """How to build a family's unit, and what its channels are multiples of."""

    build: Callable[[int], nn.Module]
    multiple: int


def _v2(channels: int) -> nn.Module:
    return ShuffleUnit(channels, channels)


def _v1(channels: int) -> nn.Module:
    return ShuffleUnitV1(
        channels, channels, (3, 3), STYLES['paper'], NORM_CFG, ACT_CFG
    )


def _mobilenet_v2(channels: int) -> nn.Module:
    return InvertedResidual(
        channels,
        channels,
        mid_channels=6 * channels,
        norm_cfg=NORM_CFG,
        act_cfg=dict(type='ReLU6', inplace=True),
    )


def _xception(channels: int) -> nn.Module:
    return XceptionUnit(channels, channels, NORM_CFG, ACT_CFG)


FAMILIES = {
    REFERENCE: Family(_v2, 2),
    'shufflenet_v1': Family(_v1, 12),
    'mobilenet_v2': Family(_mobilenet_v2, 1),
    'xception': Family(_xception, 4),
}


@cache
def flops_per_place(family: str, channels: int) -> int:
    """Multiply-adds of a unit for one place of its map."""
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        FAMILIES[family].build(channels).eval()(torch.empty(1, channels, 8, 8))
    return counter.get_total_flops() // 2 // 64


@cache
def channels_of(family: str, column: int) -> int:
    """Channels with which a unit comes closest to ShuffleNet V2's FLOPs.

    Args:
        family: one of `FAMILIES`.
        column: channels of ShuffleNet V2.
    """
    wanted = flops_per_place(REFERENCE, column)
    multiples = range(
        FAMILIES[family].multiple, 4 * column, FAMILIES[family].multiple
    )
    above = bisect(
        multiples, wanted, key=lambda each: flops_per_place(family, each)
    )
    return min(
        multiples[above - 1 : above + 1],
        key=lambda each: abs(flops_per_place(family, each) - wanted),
    )


def _stack(family: str, channels: int) -> nn.Sequential:
    build = FAMILIES[family].build
    return nn.Sequential(*(build(channels) for _ in range(UNITS)))


def _subject(
    family: str, column: int, size: tuple[int, int], batch: int
) -> Subject:
    channels = channels_of(family, column)
    width, height = size
    return Subject(
        f'{family} c{column}',
        partial(_stack, family, channels),
        (batch, channels, height, width),
        (8, channels, 14, 14),
    )


def paper_per_s(
    family: str, column: int, size: tuple[int, int], batch: int, on_gpu: bool
) -> float | None:
    """Published batches (CPU: images) per second; None if there are none.

    The table names no batch. At batch 8, as in Table 8, its speeds amount to
    about the multiply-adds per second of that table.
    """
    table = published_results()['appendix_table1b']
    row = table.get('{}x{}'.format(*size), {}).get(family)
    if row is None or batch != (8 if on_gpu else 1):
        return None
    return row['gpu' if on_gpu else 'cpu'][CHANNELS.index(column)]


def _measure(
    family: str,
    column: int,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    effort: Effort,
    with_energy: bool,
) -> list[Row]:
    row = compare_networks(
        _subject(family, column, size, batch),
        _subject(REFERENCE, column, size, batch),
        setting,
        effort,
        with_energy,
    )
    papers = (
        paper_per_s(each, column, size, batch, setting.on_gpu)
        for each in (family, REFERENCE)
    )
    return [{**row, **paper_columns(*papers), 'paper_mflops': ''}]


def cases(
    sizes: list[tuple[int, int]],
    batch: int,
    setting: Setting,
    effort: Effort,
    with_energy: bool,
) -> Iterator[Case]:
    """One case for each family, channels and size of the maps."""
    for size in sizes:
        for column in CHANNELS:
            for family in FAMILIES:
                channels = channels_of(family, column)
                text = '{}x{}'.format(*size)
                yield Case(
                    key={
                        'table': 'Appendix Table 1b',
                        'column': f'c{column}',
                        'network': f'{UNITS} units of {family}, '
                        f'{channels} channels',
                        'input': text,
                        'batch': batch,
                    },
                    setting=setting,
                    measure=partial(
                        _measure,
                        family,
                        column,
                        size,
                        batch,
                        setting,
                        effort,
                        with_energy,
                    ),
                    label=f'units of {family} c{column} {text}, batch '
                    f'{batch}, {setting.precision}, {setting.mode}',
                )
