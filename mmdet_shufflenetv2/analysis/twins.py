"""A layer that breaks a guideline beside its twin that keeps it.

The four guidelines of arXiv 1807.11164, section 2. What a broken one costs
can only be told by comparison: each rule names the layer that does as many
multiply-adds and keeps the guideline, and both run in turn, alone. By as much
as the twin is quicker, that share of the layer's time in the network is the
cost. It may be negative: then the guideline does not hold for this layer on
this machine. Element-wise work (G4) has no twin; it costs the time it takes.

A fifth rule is not the paper's: a convolution that reads a slice of a wider
map, as after a channel split, beside one that reads a map of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from textwrap import shorten

import torch
import torch.nn.functional as F

from ..measure.convolution import Convolution
from ..measure.memory import is_out_of_memory
from ..measure.timing import (
    Effort,
    Stopwatch,
    Timing,
    interleave,
    spread,
)
from . import operations
from .layers import Layer

EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)
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
    """A layer that breaks a guideline, and what that costs."""

    # Index of the layer.
    layer: int
    rule: str
    # What breaks it, and what would keep it.
    reason: str
    instead: str
    # The layer that keeps it; None where it is to leave out.
    twin: Convolution | None = None
    # The cost, of the layer's time in the network; None if not measured.
    ms: float | None = None
    # How it was measured, or why it was not.
    how: str = 'not measured: no time was left'


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says."""
    if is_out_of_memory(error):
        return 'does not fit in memory'
    first = str(error).strip().partition('\n')[0].partition(' Hint: ')[0]
    return f'{type(error).__name__}: {shorten(first, 120)}'


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
            for breach in _twins_of(conv, layer.branches):
                found.append(Breach(index, *breach))
    return found


def _twins_of(
    conv: Convolution, branches: int
) -> Iterator[tuple[str, str, str, Convolution]]:
    """Rule, what breaks it, what would keep it, and that as a layer."""
    before, after = conv.in_channels, conv.out_channels
    bound = conv.memory_access_bound
    if conv.groups == 1 and bound and conv.memory_access >= EXCESS * bound:
        width = _near(conv, math.sqrt(before * after))
        yield (
            'G1',
            f'{before} -> {after} channels, {conv.memory_access / bound:.2f} '
            'times the least memory access',
            f'{width} -> {width} channels',
            _with(conv, width, width, 1),
        )
    if conv.groups > 1 and not conv.is_depthwise:
        less = math.sqrt(conv.groups)
        narrow = [_near(conv, width / less) for width in (before, after)]
        yield (
            'G2',
            f'{conv.groups} groups of {before} -> {after} channels',
            f'{narrow[0]} -> {narrow[1]} channels, dense',
            _with(conv, *narrow, 1),
        )
    if branches > 1:
        times = min(branches, MOST_BRANCHES)
        groups, wide = conv.groups, [before * times, after * times]
        if conv.is_depthwise:
            groups *= times
        else:
            more = math.sqrt(times)
            wide = [
                _near(conv, width * more)
                if groups == 1
                else max(1, round(width * more / groups)) * groups
                for width in (before, after)
            ]
        yield (
            'G3',
            f'{branches} parallel branches',
            f'one layer of {wide[0]} -> {wide[1]} channels for {times}',
            _with(conv, *wide, groups),
        )
    if conv.has_gaps:
        yield (
            'layout',
            f'reads {before} channels out of a wider map',
            'a map of its own',
            _with(conv, before, after, conv.groups),
        )


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


def _near(conv: Convolution, channels: float) -> int:
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
    """Every breach and its cost, those of the slowest layers first."""
    found = sorted(find_breaches(layers), key=lambda b: -layers[b.layer].ms)
    for place, breach in enumerate(found):
        layer, ms = layers[breach.layer], None
        if breach.twin is None:
            ms, how = layer.ms, 'its time in the network'
        elif is_over():
            continue
        else:
            try:
                own, twin = compare(layer.convolution, breach.twin)
            except (RuntimeError, MemoryError) as error:
                how = f'not measured: {reason_of(error)}'
            else:
                # Channels are whole, so the multiply-adds differ a little.
                twin *= layer.convolution.flops / breach.twin.flops
                # Alone, a layer finds its input in a cache, in the network it
                # may not, so only the ratio of the two times is used.
                ms = layer.ms * (1 - twin / own)
                how = f'{own:.3g} ms alone, {twin:.3g} ms with '
                how += breach.instead
        found[place] = replace(breach, ms=ms, how=how)
    return found


def comparison(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Compare:
    """How a layer is compared with its twin; each pair only once."""
    # Of one call on an idle GPU most is the host's launching it.
    turns = 20 if device.type == 'cuda' else 1

    def median_ms(timing: Timing) -> float:
        return spread(timing.times_ms).median / turns

    @cache
    def compare(own: Convolution, twin: Convolution) -> tuple[float, float]:
        runs = {
            name: prepared(conv, device, dtype, turns)
            for name, conv in (('own', own), ('twin', twin))
        }
        times = interleave(runs, watch, effort)
        return median_ms(times['own']), median_ms(times['twin'])

    return compare


def prepared(
    conv: Convolution,
    device: torch.device | str,
    dtype: torch.dtype,
    turns: int = 1,
) -> Callable[[], object]:
    """A convolution with random input and weights, run so many times."""
    place = dict(device=device, dtype=dtype)
    x = torch.empty_strided(conv.in_shape, conv.in_strides, **place)
    x.normal_()
    channels = (conv.out_channels, conv.in_channels // conv.groups)
    function = F.conv2d
    if conv.transposed:
        function = F.conv_transpose2d
        channels = (conv.in_channels, conv.out_channels // conv.groups)
    weight = torch.randn(*channels, *conv.kernel_size, **place)
    names = ('stride', 'padding', 'dilation', 'groups')
    options = {name: getattr(conv, name) for name in names}

    @torch.no_grad()
    def run() -> object:
        for _ in range(turns):
            out = function(x, weight, **options)
        return out

    return run
