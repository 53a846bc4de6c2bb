"""What a breach costs: the layer and its replacement, run in turn, alone.

Alone, a layer finds its input in a cache where that is large enough; in the
network it may not. So the ratio of the two is what is measured here, and the
price is that share of the time the layer takes in the network. It may be
negative: then the guideline does not hold for this layer on this machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from ..benchmark.memory import is_out_of_memory
from ..benchmark.setting import Setting
from ..benchmark.timing import Effort, interleave, spread
from .breaches import Breach, Trial
from .layers import Layer

EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)
# (own, other) -> milliseconds of each, None where it does not fit in memory.
Compare = Callable[[Trial, Trial], tuple[float, float] | None]


@dataclass(frozen=True)
class Price:
    """What a breach costs.

    Attributes:
        breach: which.
        ms: of the layer's time in the network; None if it could not be
            measured.
        own_ms, other_ms: of the layer and of its replacement, alone, for as
            many multiply-adds; None for what is only left out.
    """

    breach: Breach
    ms: float | None
    own_ms: float | None = None
    other_ms: float | None = None

    @property
    def how(self) -> str:
        """How the price came about."""
        if self.breach.trial is None:
            return 'its time in the network'
        if self.ms is None:
            return 'not measured: the replacement does not fit in memory'
        return (
            f'{self.own_ms:.3g} ms alone, {self.other_ms:.3g} ms with '
            f'{self.breach.instead}'
        )


def prepared(trial: Trial, setting: Setting) -> Callable[[], object]:
    """A convolution with random input and weights, ready to run."""
    conv, window = trial.convolution, trial.window
    place = dict(device=setting.device, dtype=setting.dtype)
    x = torch.empty_strided(window.in_shape, window.in_strides, **place)
    x.normal_()
    channels = (conv.out_channels, conv.in_channels // conv.groups)
    options = dict(
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=conv.groups,
    )
    function = F.conv2d
    if conv.transposed:
        function = F.conv_transpose2d
        channels = (conv.in_channels, conv.out_channels // conv.groups)
    weight = torch.randn(*channels, *conv.kernel_size, **place)

    def run() -> object:
        with torch.no_grad():
            return function(x, weight, **options)

    return run


def _repeated(function: Callable[[], object], turns: int) -> None:
    for _ in range(turns):
        function()


def comparison(setting: Setting, effort: Effort = EFFORT) -> Compare:
    """How trials are compared under a setting; each pair only once."""
    known: dict[tuple[Trial, Trial], tuple[float, float] | None] = {}
    watch = setting.stopwatch()
    # Of one call on an idle GPU most is the host's launching it.
    turns = 20 if setting.on_gpu else 1

    def compare(own: Trial, other: Trial) -> tuple[float, float] | None:
        if (own, other) not in known:
            try:
                runs = {
                    name: partial(_repeated, prepared(trial, setting), turns)
                    for name, trial in (('own', own), ('other', other))
                }
                times = interleave(runs, watch, effort)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                known[own, other] = None
            else:
                known[own, other] = tuple(
                    spread(times[name].times_ms).median / turns
                    for name in runs
                )
        return known[own, other]

    return compare


def price_breaches(
    breaches: Sequence[Breach],
    layers: Sequence[Layer],
    layer_ms: Sequence[float],
    compare: Compare,
    progress: Callable[[], object] = lambda: None,
) -> list[Price]:
    """The price of each breach.

    Args:
        breaches: as found in ``layers``.
        layers: the network's.
        layer_ms: the time each takes in the network.
        compare: times a layer and its replacement.
        progress: called after each.
    """
    prices = []
    for breach in breaches:
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
        return Price(breach, None)
    own, other = times
    # Channels are whole numbers, so the multiply-adds differ a little.
    other *= layer.convolution.flops / breach.trial.convolution.flops
    return Price(breach, in_network * (1 - other / own), own, other)
