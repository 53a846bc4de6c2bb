"""Compare layers that break a guideline with twins that keep it.

The guidelines are G1 to G4 of arXiv 1807.11164, section 2. A twin has as many
multiply-adds as the layer and keeps the guideline. Both run in turn, outside
of the network. The cost of breaking the guideline is the share of time that
the twin saves, applied to the layer's time in the network. It may be negative:
then the guideline does not hold for this layer on this machine. Element-wise
work (G4) has no twin; its cost is its own time.

A fifth rule, 'layout', is not from the paper: it compares a convolution that
reads a slice of a wider map, as after a channel split, with one that reads a
contiguous map.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from textwrap import shorten

import torch
import torch.nn.functional as F

from ..measure.memory import is_out_of_memory
from ..measure.timing import Effort, Stopwatch, interleave
from . import operations
from .convolution import Convolution
from .layers import Layer

EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)
# Memory access over the bound of equation (2) from which a layer counts as
# unbalanced. The paper's mildest case, channels 1:2 on 56x56 maps, has 1.06.
EXCESS = 1.05
# A shared head has a branch per level and task; a twin that replaces more of
# them would be unrealistically wide.
MOST_BRANCHES = 16
# Blocks of channels that kernels process, and the largest relative error of
# rounding to them.
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
    """A layer that breaks a guideline, and the cost of it.

    Attributes:
        layer: index of the layer.
        reason, instead: what breaks the guideline, and what would keep it.
        twin: the layer that keeps it; None if the layer is to be removed.
        ms: the part of the layer's time that is lost; None if not measured.
        how: how the cost was measured, or why it was not.
    """

    layer: int
    rule: str
    reason: str
    instead: str
    twin: Convolution | None = None
    ms: float | None = None
    how: str = 'not measured: out of time'


def reason_of(error: BaseException) -> str:
    """The first line of an error message, shortened."""
    if is_out_of_memory(error):
        return 'does not fit in memory'
    first = str(error).strip().partition('\n')[0].partition(' Hint: ')[0]
    return f'{type(error).__name__}: {shorten(first, 120)}'


# Maps (own, twin) to the milliseconds of each.
Compare = Callable[[Convolution, Convolution], tuple[float, float]]


def breaches_of(
    layers: Sequence[Layer], compare: Compare | None = None, seconds=math.inf
) -> list[Breach]:
    """Find the guidelines that layers break, those of slow layers first.

    Their costs are measured with ``compare``, if given, until ``seconds`` have
    passed.
    """
    end = time.monotonic() + seconds
    order = sorted(range(len(layers)), key=lambda i: -layers[i].ms)
    found = [breach for i in order for breach in _broken(i, layers[i])]
    for place, breach in enumerate(found):
        if not (breach.twin and compare) or time.monotonic() > end:
            continue
        layer, ms = layers[breach.layer], None
        try:
            own, twin = compare(layer.convolution, breach.twin)
        except (RuntimeError, MemoryError) as error:
            how = f'not measured: {reason_of(error)}'
        else:
            # Correct for multiply-adds that differ after rounding channels.
            twin *= layer.convolution.flops / breach.twin.flops
            # Use only the ratio: outside of the network, a layer may find its
            # input in a cache.
            ms = layer.ms * (1 - twin / own)
            how = f'{own:.3g} ms alone, {twin:.3g} ms with {breach.instead}'
        found[place] = replace(breach, ms=ms, how=how)
    return found


def _broken(index: int, layer: Layer) -> Iterator[Breach]:
    """The guidelines that one layer breaks."""
    conv = layer.convolution
    if layer.kind == operations.ELEMENTWISE:
        reason = f'{layer.type} on {"x".join(map(str, layer.out_shape))}'
        how = 'time in the network'
        yield Breach(index, 'G4', reason, 'nothing', ms=layer.ms, how=how)
    if conv is None or conv.in_strides is None:
        return
    widths = before, after = conv.in_channels, conv.out_channels
    own = f'{before} -> {after} channels'
    bound = conv.memory_access_bound
    if conv.groups == 1 and bound and conv.memory_access >= EXCESS * bound:
        width = _near(conv, math.sqrt(before * after))
        excess = f'{conv.memory_access / bound:.2f} times'
        yield Breach(
            *(index, 'G1', f'{own}, {excess} the least memory access'),
            f'{width} -> {width} channels',
            _with(conv, width, width),
        )
    if conv.groups > 1 and not conv.is_depthwise:
        less = math.sqrt(conv.groups)
        narrow = [_near(conv, width / less) for width in widths]
        yield Breach(
            *(index, 'G2', f'{conv.groups} groups of {own}'),
            f'{narrow[0]} -> {narrow[1]} channels, dense',
            _with(conv, *narrow),
        )
    if layer.branches > 1:
        times, groups = min(layer.branches, MOST_BRANCHES), conv.groups
        if conv.is_depthwise:
            groups, wide = groups * times, [width * times for width in widths]
        else:
            more = math.sqrt(times) / groups
            wide = [_near(conv, width * more) * groups for width in widths]
        yield Breach(
            *(index, 'G3', f'{layer.branches} parallel branches'),
            f'one layer of {wide[0]} -> {wide[1]} channels instead of {times}',
            _with(conv, *wide, groups),
        )
    if conv.has_gaps:
        yield Breach(
            *(index, 'layout', f'reads {before} channels of a wider map'),
            'a contiguous map',
            _with(conv, *widths, conv.groups),
        )


def _with(
    conv: Convolution, in_channels: int, out_channels: int, groups: int = 1
) -> Convolution:
    """The same layer with other channels, reading a contiguous map."""
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
    """Round channels to the largest block, up to 16, that the layer fills.

    Kernels process channels in blocks. A twin that leaves blocks partly empty
    would be slow for an unrelated reason.
    """
    own = math.gcd(conv.in_channels, conv.out_channels)
    for block in BLOCKS:
        rounded = round(channels / block) * block
        if own % block == 0 and abs(rounded / channels - 1) <= ROUNDING:
            return rounded
    return max(1, round(channels))


def comparison(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Compare:
    """Return a function that times a layer and its twin, with a cache."""
    # A single call on an idle GPU mostly measures the launch.
    turns = 20 if device.type == 'cuda' else 1

    @cache
    def compare(own: Convolution, twin: Convolution) -> tuple[float, float]:
        runs = {c: prepared(c, device, dtype, turns) for c in (own, twin)}
        times = interleave(runs, watch, effort).values()
        return tuple(median(each.times_ms) / turns for each in times)

    return compare


def prepared(
    conv: Convolution,
    device: torch.device | str,
    dtype: torch.dtype,
    turns: int = 1,
) -> Callable[[], object]:
    """A convolution of random input and weights that runs ``turns`` times."""
    place = dict(device=device, dtype=dtype)
    x = torch.empty_strided(conv.in_shape, conv.in_strides, **place)
    x.normal_()
    channels = [conv.out_channels, conv.in_channels // conv.groups]
    function = F.conv2d
    if conv.transposed:
        function = F.conv_transpose2d
        channels = [conv.in_channels, conv.out_channels // conv.groups]
    weight = torch.randn(*channels, *conv.kernel_size, **place)
    names = ('stride', 'padding', 'dilation', 'groups')
    options = {name: getattr(conv, name) for name in names}

    @torch.no_grad()
    def run() -> object:
        for _ in range(turns):
            out = function(x, weight, **options)
        return out

    return run
