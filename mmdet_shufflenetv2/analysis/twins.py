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

import torch
import torch.nn.functional as F

from ..measure.convolution import Convolution
from ..measure.memory import is_out_of_memory
from ..measure.timing import Effort, Stopwatch, interleave, spread
from . import operations
from .layers import Layer

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
class Breach:
    """A layer that breaks a guideline, and what that costs.

    Attributes:
        layer: index of the layer.
        rule: a key of `RULES`.
        reason: what breaks it.
        instead: what would keep it.
        twin: the layer that keeps it; None where it is to leave out.
        ms: the cost, of the layer's time in the network; None if it was not
            measured.
        how: how it was measured, or why it was not.
    """

    layer: int
    rule: str
    reason: str
    instead: str
    twin: Convolution | None = None
    ms: float | None = None
    how: str = 'not measured: no time was left'


def find_breaches(layers: Sequence[Layer]) -> list[Breach]:
    """Every guideline that every layer breaks, in their order."""
    found = []
    for index, layer in enumerate(layers):
        conv = layer.convolution
        if layer.kind == operations.ELEMENTWISE:
            shape = 'x'.join(map(str, layer.out_shape))
            reason = f'{layer.type} on {shape}'
            found.append(Breach(index, 'G4', reason, 'nothing'))
        elif conv is not None and conv.in_strides is not None:
            for rule, twin_of in _TWINS.items():
                what = twin_of(conv, layer.branches)
                if what is not None:
                    found.append(Breach(index, rule, *what))
    return found


_Twin = tuple[str, str, Convolution] | None


def _balanced(conv: Convolution, branches: int) -> _Twin:
    bound = conv.memory_access_bound
    if conv.groups > 1 or bound is None or conv.memory_access < EXCESS * bound:
        return None
    width = _like(conv, math.sqrt(conv.in_channels * conv.out_channels))
    return (
        f'{conv.in_channels} -> {conv.out_channels} channels, '
        f'{conv.memory_access / bound:.2f} times the least memory access',
        f'{width} -> {width} channels',
        _with(conv, width, width, 1),
    )


def _dense(conv: Convolution, branches: int) -> _Twin:
    if conv.groups == 1 or conv.is_depthwise:
        return None
    less = math.sqrt(conv.groups)
    before = _like(conv, conv.in_channels / less)
    after = _like(conv, conv.out_channels / less)
    return (
        f'{conv.groups} groups of {conv.in_channels} -> '
        f'{conv.out_channels} channels',
        f'{before} -> {after} channels, dense',
        _with(conv, before, after, 1),
    )


def _in_one(conv: Convolution, branches: int) -> _Twin:
    if branches == 1:
        return None
    parallel, branches = branches, min(branches, MOST_BRANCHES)
    if conv.is_depthwise:
        groups = before = conv.in_channels * branches
        after = conv.out_channels * branches
    else:
        groups, wider = conv.groups, math.sqrt(branches)
        before, after = (
            _like(conv, channels * wider)
            if groups == 1
            else max(1, round(channels * wider / groups)) * groups
            for channels in (conv.in_channels, conv.out_channels)
        )
    return (
        f'{parallel} parallel branches',
        f'one layer of {before} -> {after} channels for {branches}',
        _with(conv, before, after, groups),
    )


def _whole_map(conv: Convolution, branches: int) -> _Twin:
    if not conv.has_gaps:
        return None
    return (
        f'reads {conv.in_channels} channels out of a wider map',
        'a map of its own',
        _with(conv, conv.in_channels, conv.out_channels, conv.groups),
    )


# Each gives what breaks the rule, what would keep it, and that as a layer;
# None where the rule is kept.
_TWINS: dict[str, Callable[[Convolution, int], _Twin]] = {
    'G1': _balanced,
    'G2': _dense,
    'G3': _in_one,
    'layout': _whole_map,
}


def _with(
    conv: Convolution, in_channels: int, out_channels: int, groups: int
) -> Convolution:
    """The layer with other channels, over a map of its own."""
    height, width = conv.in_size
    strides = (height * width, width, 1)
    if conv.channels_last:
        strides = (1, in_channels * width, in_channels)
    return replace(
        conv,
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        in_strides=(in_channels * height * width, *strides),
    )


def _like(conv: Convolution, channels: float) -> int:
    """About as many channels, as divisible as the layer's own up to 16.

    Kernels work on channels in blocks; a twin that does not fill them would
    be slow for a reason of its own.
    """
    own = math.gcd(conv.in_channels, conv.out_channels)
    for block in BLOCKS:
        rounded = max(1, round(channels / block)) * block
        if own % block == 0 and abs(rounded / channels - 1) <= ROUNDING:
            return rounded
    return max(1, round(channels))


# (own, twin) -> milliseconds of each.
Compare = Callable[[Convolution, Convolution], tuple[float, float]]


def breaches_of(
    layers: Sequence[Layer],
    compare: Compare,
    is_over: Callable[[], bool] = lambda: False,
) -> list[Breach]:
    """Every breach and its cost, those of the slowest layers first.

    Args:
        layers: the network's.
        compare: times a layer and its twin.
        is_over: whether the time for it is over.
    """
    found = sorted(find_breaches(layers), key=lambda b: -layers[b.layer].ms)
    return [
        breach
        if breach.twin is not None and is_over()
        else _measured(breach, layers[breach.layer], compare)
        for breach in found
    ]


def _measured(breach: Breach, layer: Layer, compare: Compare) -> Breach:
    if breach.twin is None:
        return replace(breach, ms=layer.ms, how='its time in the network')
    try:
        own, twin = compare(layer.convolution, breach.twin)
    except (RuntimeError, MemoryError) as error:
        reason = str(error).partition('\n')[0]
        if is_out_of_memory(error):
            reason = 'the twin does not fit in memory'
        return replace(breach, how=f'not measured: {reason}')
    # Channels are whole numbers, so the multiply-adds differ a little.
    twin *= layer.convolution.flops / breach.twin.flops
    how = f'{own:.3g} ms alone, {twin:.3g} ms with {breach.instead}'
    return replace(breach, ms=layer.ms * (1 - twin / own), how=how)


EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)


def comparison(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Compare:
    """How a layer is compared with its twin; each pair only once."""
    known: dict[tuple[Convolution, Convolution], tuple[float, float]] = {}
    # Of one call on an idle GPU most is the host's launching it.
    turns = 20 if device.type == 'cuda' else 1

    def compare(own: Convolution, twin: Convolution) -> tuple[float, float]:
        if (own, twin) not in known:
            runs = {
                name: partial(_repeat, prepared(conv, device, dtype), turns)
                for name, conv in (('own', own), ('twin', twin))
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
    conv: Convolution, device: torch.device | str, dtype: torch.dtype
) -> Callable[[], object]:
    """A convolution with random input and weights, ready to run."""
    place = dict(device=device, dtype=dtype)
    x = torch.empty_strided(conv.in_shape, conv.in_strides, **place)
    x.normal_()
    channels = (conv.out_channels, conv.in_channels // conv.groups)
    function = F.conv2d
    if conv.transposed:
        function = F.conv_transpose2d
        channels = (conv.in_channels, conv.out_channels // conv.groups)
    weight = torch.randn(*channels, *conv.kernel_size, **place)
    options = dict(
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )

    def run() -> object:
        with torch.no_grad():
            return function(x, weight, **options)

    return run
