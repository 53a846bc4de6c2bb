"""Which layers break which guideline, and what that costs here.

The four guidelines of arXiv 1807.11164, section 2. A breach has a price only
in comparison: each rule names the layer that does as many multiply-adds and
keeps the guideline, to be measured beside the one there is; by as much of
the layer's time in the network as it is quicker, the breach is priced. A
price may be negative: then the guideline does not hold for this layer on
this machine. Element-wise work (G4) can only go; its price is the time it
takes.

A fifth rule is not the paper's: a convolution that reads a slice of a wider
map, as after a channel split, against one that reads a map of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from . import operations
from .alternatives import Compare, Trial
from .layers import Layer
from .operations import Window

# Least excess over equation (2) that counts as unbalanced: the paper's
# mildest case, channels 1:2 on 56x56 maps, has 6 %.
EXCESS = 1.05
# A shared head has a branch per level and task; more than this wide a layer
# is nothing one would build.
MOST_BRANCHES = 16
# Channels that kernels take at a time, and the error of rounding to them.
BLOCKS = (16, 8, 4, 2)
ROUNDING = 0.07


@dataclass(frozen=True)
class Breach:
    """A layer that breaks a guideline.

    Attributes:
        layer: index of the layer.
        rule: ``'G1'`` to ``'G4'`` or ``'layout'``.
        reason: what breaks it.
        instead: what would keep it.
        trial: the layer that keeps it; None where it is to leave out.
    """

    layer: int
    rule: str
    reason: str
    instead: str
    trial: Trial | None = None


@dataclass(frozen=True)
class Rule:
    """How a guideline is checked.

    Attributes:
        title: what it says.
        find: gives reason, what would keep it, and that as a layer; None
            where the guideline is kept.
    """

    title: str
    find: Callable[[Layer], tuple[str, str, Trial | None] | None]


def _dense(window: Window, channels: int) -> Window:
    """The same window over a map of its own, in the same layout."""
    batch, _, height, width = window.in_shape
    strides = (
        (channels * height * width, 1, channels * width, channels)
        if window.channels_last
        else (channels * height * width, height * width, width, 1)
    )
    return replace(
        window,
        in_shape=(batch, channels, height, width),
        in_strides=strides,
    )


def _trial(layer: Layer, in_channels: int, out_channels: int, groups: int):
    conv = replace(
        layer.convolution,
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
    )
    return Trial(conv, _dense(layer.window, in_channels))


def _can_be_tried(layer: Layer) -> bool:
    return layer.window is not None and len(layer.window.in_shape) == 4


def _like(layer: Layer, channels: float) -> int:
    """About as many channels, as divisible as the layer's own up to 16.

    Kernels work on channels in blocks; a replacement that does not fill
    them would be slow for a reason of its own.
    """
    conv = layer.convolution
    own = math.gcd(conv.in_channels, conv.out_channels)
    for block in BLOCKS:
        rounded = max(1, round(channels / block)) * block
        if own % block == 0 and abs(rounded / channels - 1) <= ROUNDING:
            return rounded
    return max(1, round(channels))


def _unbalanced(layer: Layer):
    conv = layer.convolution
    if not _can_be_tried(layer) or conv.groups > 1:
        return None
    bound = conv.memory_access_bound
    if bound is None or conv.memory_access < EXCESS * bound:
        return None
    channels = _like(layer, math.sqrt(conv.in_channels * conv.out_channels))
    return (
        f'{conv.in_channels} -> {conv.out_channels} channels, '
        f'{conv.memory_access / bound:.2f} times the least memory access',
        f'{channels} -> {channels} channels',
        _trial(layer, channels, channels, 1),
    )


def _grouped(layer: Layer):
    conv = layer.convolution
    if not _can_be_tried(layer) or conv.groups == 1 or conv.is_depthwise:
        return None
    less = math.sqrt(conv.groups)
    before, after = (
        _like(layer, channels / less)
        for channels in (conv.in_channels, conv.out_channels)
    )
    return (
        f'{conv.groups} groups of {conv.in_channels} -> '
        f'{conv.out_channels} channels',
        f'{before} -> {after} channels, dense',
        _trial(layer, before, after, 1),
    )


def _fragmented(layer: Layer):
    if not _can_be_tried(layer) or layer.branches == 1:
        return None
    conv, branches = layer.convolution, min(layer.branches, MOST_BRANCHES)
    if conv.is_depthwise:
        wider, groups = branches, conv.in_channels * branches
        before, after = groups, conv.out_channels * branches
    else:
        wider, groups = math.sqrt(branches), conv.groups
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


def _elementwise(layer: Layer):
    if layer.kind != operations.ELEMENTWISE:
        return None
    return f'{layer.type} on {_shape(layer.out_shape)}', 'nothing', None


def _sliced(layer: Layer):
    if not _can_be_tried(layer) or not layer.window.has_gaps:
        return None
    conv = layer.convolution
    return (
        f'reads {conv.in_channels} channels out of a wider map',
        'a map of its own',
        _trial(layer, conv.in_channels, conv.out_channels, conv.groups),
    )


def _shape(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))


RULES = {
    'G1': Rule('equal channel width minimises memory access', _unbalanced),
    'G2': Rule('groups raise memory access', _grouped),
    'G3': Rule('fragments reduce parallelism', _fragmented),
    'G4': Rule('element-wise operations are not negligible', _elementwise),
    'layout': Rule('slices of a map are read with gaps', _sliced),
}


@dataclass(frozen=True)
class Price:
    """What a breach costs.

    Attributes:
        breach: which.
        ms: of the layer's time in the network; None if it could not be
            measured.
        own_ms, other_ms: of the layer and of its replacement, alone, for as
            many multiply-adds; None for what is only left out.
        problem: why there is no price.
    """

    breach: Breach
    ms: float | None
    own_ms: float | None = None
    other_ms: float | None = None
    problem: str = ''

    @property
    def how(self) -> str:
        """How the price came about."""
        if self.breach.trial is None:
            return 'its time in the network'
        if self.ms is None:
            return f'not measured: {self.problem}'
        return (
            f'{self.own_ms:.3g} ms alone, {self.other_ms:.3g} ms with '
            f'{self.breach.instead}'
        )


def find_breaches(layers: Sequence[Layer]) -> list[Breach]:
    """Every rule that every layer breaks, in their order."""
    found = []
    for index, layer in enumerate(layers):
        for name, rule in RULES.items():
            what = rule.find(layer)
            if what is not None:
                found.append(Breach(index, name, *what))
    return found


def price_breaches(
    breaches: Sequence[Breach],
    layers: Sequence[Layer],
    layer_ms: Sequence[float],
    compare: Compare,
    progress: Callable[[], object] = lambda: None,
    is_over: Callable[[], bool] = lambda: False,
) -> list[Price]:
    """The price of each breach, those of the slowest layers first.

    Args:
        breaches: as found in ``layers``.
        layers: the network's.
        layer_ms: the time each takes in the network.
        compare: times a layer and its replacement.
        progress: called after each.
        is_over: whether the time for it is; what is left has no price.
    """
    prices = []
    for breach in sorted(breaches, key=lambda each: -layer_ms[each.layer]):
        if breach.trial is not None and is_over():
            prices.append(Price(breach, None, problem='no time was left'))
        else:
            prices.append(_price(breach, layers, layer_ms, compare))
        progress()
    return prices


def _price(breach, layers, layer_ms, compare) -> Price:
    in_network = layer_ms[breach.layer]
    if breach.trial is None:
        return Price(breach, in_network)
    layer = layers[breach.layer]
    times = compare(Trial(layer.convolution, layer.window), breach.trial)
    if times is None:
        problem = 'the replacement does not fit in memory'
        return Price(breach, None, problem=problem)
    own, other = times
    # Channels are whole numbers, so the multiply-adds differ a little.
    other *= layer.convolution.flops / breach.trial.convolution.flops
    return Price(breach, in_network * (1 - other / own), own, other)
