"""A layer that breaks a guideline beside its twin that keeps it.

The four guidelines of arXiv 1807.11164, section 2. What a broken one costs
can only be told by comparison: each rule names the layer that does as many
multiply-adds and keeps the guideline, and both run in turn, alone. By as much
as the twin is quicker, that share of the layer's time in the network is the
cost. It may be negative: then the guideline does not hold for this layer on
this machine. Element-wise work (G4) has no twin; it costs the time it takes.

A fifth rule is not the paper's: a convolution that reads a slice of a wider
map, as after a channel split, beside one that reads a map of its own.

Alone, a layer finds its input in a cache where that is large enough; in the
network it may not, so only the ratio of the two times is used.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..measure.convolution import Convolution
from ..measure.memory import is_out_of_memory
from ..measure.timing import Effort, Stopwatch, interleave, spread
from . import operations
from .layers import Layer
from .operations import Window

# Least excess over equation (2) that counts as unbalanced: the paper's
# mildest case, channels 1:2 on 56x56 maps, has 6 %.
EXCESS = 1.05
# A shared head has a branch per level and task; nobody would build a layer
# more than this many times as wide.
MOST_BRANCHES = 16
# Channels that kernels take at a time, and the error of rounding to them.
BLOCKS = (16, 8, 4, 2)
ROUNDING = 0.07

RULES = {
    'G1': 'equal channel width minimises memory access',
    'G2': 'groups raise memory access',
    'G3': 'fragments reduce parallelism',
    'G4': 'element-wise operations are not negligible',
    'layout': 'slices of a map are read with gaps',
}


@dataclass(frozen=True)
class Trial:
    """A convolution to be run alone."""

    convolution: Convolution
    window: Window


@dataclass(frozen=True)
class Breach:
    """A layer that breaks a guideline.

    Attributes:
        layer: index of the layer.
        rule: a key of `RULES`.
        reason: what breaks it.
        instead: what would keep it.
        twin: the layer that keeps it; None where it is to leave out.
    """

    layer: int
    rule: str
    reason: str
    instead: str
    twin: Trial | None = None


def find_breaches(layers: Sequence[Layer]) -> list[Breach]:
    """Every guideline that every layer breaks, in their order."""
    found = []
    for index, layer in enumerate(layers):
        if layer.kind == operations.ELEMENTWISE:
            shape = 'x'.join(map(str, layer.out_shape))
            reason = f'{layer.type} on {shape}'
            found.append(Breach(index, 'G4', reason, 'nothing'))
        if layer.window is not None and len(layer.window.in_shape) == 4:
            for rule, twin_of in _TWINS.items():
                what = twin_of(layer, layer.convolution)
                if what is not None:
                    found.append(Breach(index, rule, *what))
    return found


_Twin = tuple[str, str, Trial] | None


def _balanced(layer: Layer, conv: Convolution) -> _Twin:
    bound = conv.memory_access_bound
    if conv.groups > 1 or bound is None or conv.memory_access < EXCESS * bound:
        return None
    width = _like(layer, math.sqrt(conv.in_channels * conv.out_channels))
    return (
        f'{conv.in_channels} -> {conv.out_channels} channels, '
        f'{conv.memory_access / bound:.2f} times the least memory access',
        f'{width} -> {width} channels',
        _trial(layer, width, width, 1),
    )


def _dense(layer: Layer, conv: Convolution) -> _Twin:
    if conv.groups == 1 or conv.is_depthwise:
        return None
    less = math.sqrt(conv.groups)
    before = _like(layer, conv.in_channels / less)
    after = _like(layer, conv.out_channels / less)
    return (
        f'{conv.groups} groups of {conv.in_channels} -> '
        f'{conv.out_channels} channels',
        f'{before} -> {after} channels, dense',
        _trial(layer, before, after, 1),
    )


def _in_one(layer: Layer, conv: Convolution) -> _Twin:
    branches = min(layer.branches, MOST_BRANCHES)
    if branches == 1:
        return None
    if conv.is_depthwise:
        groups = before = conv.in_channels * branches
        after = conv.out_channels * branches
    else:
        groups, wider = conv.groups, math.sqrt(branches)
        before, after = (
            _like(layer, channels * wider)
            if groups == 1
            else max(1, round(channels * wider / groups)) * groups
            for channels in (conv.in_channels, conv.out_channels)
        )
    return (
        f'{layer.branches} parallel branches',
        f'one layer of {before} -> {after} channels for {branches}',
        _trial(layer, before, after, groups),
    )


def _whole_map(layer: Layer, conv: Convolution) -> _Twin:
    if not layer.window.has_gaps:
        return None
    return (
        f'reads {conv.in_channels} channels out of a wider map',
        'a map of its own',
        _trial(layer, conv.in_channels, conv.out_channels, conv.groups),
    )


# Each gives what breaks the rule, what would keep it, and that as a layer;
# None where the rule is kept.
_TWINS: dict[str, Callable[[Layer, Convolution], _Twin]] = {
    'G1': _balanced,
    'G2': _dense,
    'G3': _in_one,
    'layout': _whole_map,
}


def _trial(layer: Layer, in_channels: int, out_channels: int, groups: int):
    """The layer with other channels, over a map of its own."""
    conv, window = layer.convolution, layer.window
    batch, _, height, width = window.in_shape
    strides = (
        (in_channels * height * width, 1, in_channels * width, in_channels)
        if window.channels_last
        else (in_channels * height * width, height * width, width, 1)
    )
    return Trial(
        replace(
            conv,
            in_channels=in_channels,
            out_channels=out_channels,
            groups=groups,
        ),
        replace(
            window,
            in_shape=(batch, in_channels, height, width),
            in_strides=strides,
        ),
    )


def _like(layer: Layer, channels: float) -> int:
    """About as many channels, as divisible as the layer's own up to 16.

    Kernels work on channels in blocks; a twin that does not fill them would
    be slow for a reason of its own.
    """
    conv = layer.convolution
    own = math.gcd(conv.in_channels, conv.out_channels)
    for block in BLOCKS:
        rounded = max(1, round(channels / block)) * block
        if own % block == 0 and abs(rounded / channels - 1) <= ROUNDING:
            return rounded
    return max(1, round(channels))


class Cost(NamedTuple):
    """What a breach costs.

    Attributes:
        breach: which.
        ms: of the layer's time in the network; None if it was not measured.
        how: how it was measured, or why it was not.
    """

    breach: Breach
    ms: float | None
    how: str


# (own, twin) -> milliseconds of each.
Compare = Callable[[Trial, Trial], tuple[float, float]]


def cost_of(breach: Breach, layer: Layer, compare: Compare) -> Cost:
    """The cost of one breach.

    Args:
        breach: what the layer breaks.
        layer: the layer.
        compare: times a layer and its twin.
    """
    if breach.twin is None:
        return Cost(breach, layer.ms, 'its time in the network')
    try:
        own, twin = compare(
            Trial(layer.convolution, layer.window), breach.twin
        )
    except (RuntimeError, MemoryError) as error:
        reason = str(error).partition('\n')[0]
        if is_out_of_memory(error):
            reason = 'the twin does not fit in memory'
        return Cost(breach, None, f'not measured: {reason}')
    # Channels are whole numbers, so the multiply-adds differ a little.
    twin *= layer.convolution.flops / breach.twin.convolution.flops
    how = f'{own:.3g} ms alone, {twin:.3g} ms with {breach.instead}'
    return Cost(breach, layer.ms * (1 - twin / own), how)


def costs_of(
    layers: Sequence[Layer],
    compare: Compare,
    is_over: Callable[[], bool] = lambda: False,
) -> list[Cost]:
    """The cost of every breach, those of the slowest layers first.

    Args:
        layers: the network's.
        compare: times a layer and its twin.
        is_over: whether the time for it is over.
    """
    costs = []
    breaches = find_breaches(layers)
    for breach in sorted(breaches, key=lambda each: -layers[each.layer].ms):
        if breach.twin is not None and is_over():
            costs.append(Cost(breach, None, 'not measured: no time was left'))
        else:
            costs.append(cost_of(breach, layers[breach.layer], compare))
    return costs


EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)


def comparison(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Compare:
    """How a layer is compared with its twin; each pair only once."""
    known: dict[tuple[Trial, Trial], tuple[float, float]] = {}
    # Of one call on an idle GPU most is the host's launching it.
    turns = 20 if device.type == 'cuda' else 1

    def compare(own: Trial, twin: Trial) -> tuple[float, float]:
        if (own, twin) not in known:
            runs = {
                name: partial(_repeat, prepared(trial, device, dtype), turns)
                for name, trial in (('own', own), ('twin', twin))
            }
            times = interleave(runs, watch, effort)
            known[own, twin] = tuple(
                spread(times[name].times_ms).median / turns for name in runs
            )
        return known[own, twin]

    return compare


def _repeat(function: Callable[[], object], turns: int) -> None:
    for _ in range(turns):
        function()


def prepared(
    trial: Trial, device: torch.device | str, dtype: torch.dtype
) -> Callable[[], object]:
    """A convolution with random input and weights, ready to run."""
    conv, window = trial.convolution, trial.window
    place = dict(device=device, dtype=dtype)
    x = torch.empty_strided(window.in_shape, window.in_strides, **place)
    x.normal_()
    channels = (conv.out_channels, conv.in_channels // conv.groups)
    function = F.conv2d
    if conv.transposed:
        function = F.conv_transpose2d
        channels = (conv.in_channels, conv.out_channels // conv.groups)
    weight = torch.randn(*channels, *conv.kernel_size, **place)
    options = dict(
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=conv.groups,
    )

    def run() -> object:
        with torch.no_grad():
            return function(x, weight, **options)

    return run
