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
        layer: its index.
        reason, instead: what breaks it, and what would keep it.
        twin: the layer that keeps it; None where it is to leave out.
        ms: the cost, of the layer's time in the network; None if not
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


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says."""
    if is_out_of_memory(error):
        return 'does not fit in memory'
    first = str(error).strip().partition('\n')[0].partition(' Hint: ')[0]
    return f'{type(error).__name__}: {shorten(first, 120)}'


# (own, twin) -> milliseconds of each.
Compare = Callable[[Convolution, Convolution], tuple[float, float]]


def breaches_of(
    layers: Sequence[Layer], compare: Compare | None = None, seconds=math.inf
) -> list[Breach]:
    """Every guideline that a layer breaks, and what it costs.

    Those of the slowest layers come first; nothing is measured without
    ``compare``, or when ``seconds`` are over.
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
            # Channels are whole, so the multiply-adds differ a little.
            twin *= layer.convolution.flops / breach.twin.flops
            # Alone, a layer finds its input in a cache, in the network it
            # may not, so only the ratio of the two times is used.
            ms = layer.ms * (1 - twin / own)
            how = f'{own:.3g} ms alone, {twin:.3g} ms with {breach.instead}'
        found[place] = replace(breach, ms=ms, how=how)
    return found


def _broken(index: int, layer: Layer) -> Iterator[Breach]:
    """The guidelines that one layer breaks."""
    conv = layer.convolution
    if layer.kind == operations.ELEMENTWISE:
        reason = f'{layer.type} on {"x".join(map(str, layer.out_shape))}'
        how = 'its time in the network'
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
            f'one layer of {wide[0]} -> {wide[1]} channels for {times}',
            _with(conv, *wide, groups),
        )
    if conv.has_gaps:
        yield Breach(
            *(index, 'layout', f'reads {before} channels out of a wider map'),
            'a map of its own',
            _with(conv, *widths, conv.groups),
        )


def _with(
    conv: Convolution, in_channels: int, out_channels: int, groups: int = 1
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
    """How a layer is compared with its twin; each pair only once."""
    # Of one call on an idle GPU most is the host's launching it.
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
    """A convolution with random input and weights, run so many times."""
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
