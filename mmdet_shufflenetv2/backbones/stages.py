"""Stages of a network: their plan, and the checks of arguments about them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch.nn as nn

from ..arguments import whole_number


@dataclass(frozen=True)
class Stage:
    """One level of a backbone: a name, what it emits, and how to build it.

    Attributes:
        name: the attribute that holds the module, part of checkpoint keys.
        out_channels: channels of the stage's output.
        reduction: pixels of the image per pixel of the output, per side.
        build: makes the stage's units, in order; called only when needed.
    """

    name: str
    out_channels: int
    reduction: int
    build: Callable[[], Sequence[nn.Module]]


@dataclass(frozen=True)
class StageRow:
    """What the units of one stage are built from.

    Attributes:
        name: of the stage.
        in_channels: channels of the stage's input.
        out_channels: channels of its output.
        count: number of units.
        stride: of the first unit.
        dilations: of the first unit's convolutions up to the strided one,
            and of everything behind it.
    """

    name: str
    in_channels: int
    out_channels: int
    count: int
    stride: int
    dilations: tuple[int, int]


Units = Callable[[StageRow], Sequence[nn.Module]]


def plan_stages(
    names: Sequence[str],
    in_channels: int,
    channels: Sequence[int],
    counts: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    units: Units,
    reduction: int = 4,
) -> list[Stage]:
    """The stages of a network whose stages differ in numbers only.

    A stage's first unit takes the previous stage's dilation, so that a
    network with a stride exchanged for a dilation computes what the strided
    one does, at more places, and can use its weights.

    Args:
        names: of the stages.
        in_channels: channels that the stem emits.
        channels: output channels per stage.
        counts: units per stage.
        strides: stride of each stage's first unit.
        dilations: dilation of each stage.
        units: builds the units of a stage.
        reduction: pixels of the image per pixel of the stem's output.
    """
    stages = []
    dilation = 1
    for name, after, count, stride, rest in zip(
        names, channels, counts, strides, dilations, strict=True
    ):
        reduction *= stride
        row = StageRow(
            name, in_channels, after, count, stride, (dilation, rest)
        )
        stages.append(Stage(name, after, reduction, partial(units, row)))
        in_channels, dilation = after, rest
    return stages


def repeated(unit: Callable[..., nn.Module]) -> Units:
    """Stages of one unit that changes size and equal ones behind it.

    Args:
        unit: takes the channels before and after it, and ``stride`` and
            ``dilations`` as in a `StageRow`.
    """

    def units(row: StageRow) -> list[nn.Module]:
        before, after = row.in_channels, row.out_channels
        rest = (row.dilations[1], row.dilations[1])
        return [
            unit(before, after, stride=row.stride, dilations=row.dilations),
            *(
                unit(after, after, stride=1, dilations=rest)
                for _ in range(row.count - 1)
            ),
        ]

    return units


def check_out_indices(
    out_indices: Sequence[int], names: Sequence[str]
) -> tuple[int, ...]:
    """Out indices as an ascending tuple of distinct levels.

    Raises:
        ValueError: they are empty, not ascending or out of range.
    """
    levels = ', '.join(f'{i}: {name}' for i, name in enumerate(names))
    indices = _whole_numbers(out_indices)
    if (
        not indices
        or any(index not in range(len(names)) for index in indices)
        or any(a >= b for a, b in pairwise(indices))
    ):
        raise ValueError(
            'out_indices must be an ascending sequence of levels out of '
            f'{{{levels}}}, got {out_indices!r}'
        )
    return indices


def check_strides(
    strides: Sequence[int] | None, default: Sequence[int]
) -> tuple[int, ...]:
    """The stride of each stage's first unit, or the network's own ones.

    Raises:
        ValueError: there is not one of 1 and 2 for each stage.
    """
    return _per_stage('strides', strides, default, (1, 2))


def check_dilations(
    dilations: Sequence[int] | None, count: int
) -> tuple[int, ...]:
    """The dilation of each stage, 1 if none are given.

    Raises:
        ValueError: there is not one positive integer for each stage.
    """
    return _per_stage('dilations', dilations, (1,) * count)


def check_fixed(
    name: str,
    value: Sequence[int] | None,
    only: int,
    count: int,
) -> None:
    """Raise a ValueError unless every stage has the one value there is.

    For what a family's networks cannot do, such as dilation.

    Args:
        name: of the argument.
        value: one for each stage; None means as it is.
        only: the value there is.
        count: number of stages.
    """
    if value is None:
        return
    if _whole_numbers(value) != (only,) * count:
        raise ValueError(
            f'{name} of this network must be None or {only} for every stage, '
            f'of which there are {count}, got {value!r}'
        )


def _per_stage(
    name: str,
    values: Sequence[int] | None,
    default: Sequence[int],
    allowed: Sequence[int] | None = None,
) -> tuple[int, ...]:
    if values is None:
        return tuple(default)
    count = len(default)
    numbers = _whole_numbers(values)
    if len(numbers) != count or any(
        number not in (allowed or range(1, 1 << 16)) for number in numbers
    ):
        kind = f'one of {allowed}' if allowed else 'a positive integer'
        raise ValueError(
            f'{name} must have {count} values, each {kind}, got {values!r}'
        )
    return numbers


def _whole_numbers(values: object) -> tuple[int | None, ...]:
    """Of a sequence, with None for what is no whole number; else nothing."""
    if not isinstance(values, Sequence):
        return ()
    return tuple(whole_number(value) for value in values)
