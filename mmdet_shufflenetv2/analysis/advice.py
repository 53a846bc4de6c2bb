"""What would make a network faster here, the largest gain first.

Every gain says how it is known: another way to run the network that was
measured in turn with it as it is, a layer measured beside its twin, or time
that is taken now. Gains overlap and do not add up.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from ..measure.networks import fold
from ..measure.timing import Effort, Spread, Stopwatch, interleave, ratio
from . import operations
from .operations import BETWEEN, tensors_of
from .twins import RULES, reason_of

if TYPE_CHECKING:
    from .analysis import Analysis

FOLDED = 'batch norm folded'
# Ways to run a network that leave its values as they are, and what to do for
# each; `_change` does it to a copy.
WAYS = {
    FOLDED: 'fold batch norms into the convolutions before them, as '
    'mmcv.cnn.fuse_conv_bn and torch.nn.utils.fuse_conv_bn_eval do',
    'channels-last': 'keep maps channels-last: model.to(memory_format='
    'torch.channels_last) and the images, too',
    'contiguous': 'keep maps contiguous: in the backbone channels_last=False',
    'compiled': 'compile backbone, neck and heads: module.compile()',
}
DEFAULT_WAYS = (FOLDED, 'channels-last', 'contiguous')
# Largest difference to the network as it is, of the largest value.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Alternative:
    """What one of `WAYS` was measured to give, or why it was not measured."""

    name: str
    ms: float | None = None
    # How many times faster than as it is.
    speedup: Spread | None = None
    problem: str | None = None


def measure_ways(
    model: nn.Module,
    inputs: tuple,
    run: Callable[[nn.Module, tuple], object],
    features: Callable[[nn.Module, Tensor], object] | None,
    watch: Stopwatch,
    ways: Sequence[str] = DEFAULT_WAYS,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
) -> list[Alternative]:
    """Measure a network in several ways, each in turn with it as it is.

    Those that change nothing are left out. ``features`` gives the tensors
    that have to stay the same, from a model and its first input; by default
    they are those of a pass.
    """

    def values(model: nn.Module, inputs: tuple) -> list[Tensor]:
        if features is None:
            return tensors_of(run(model, inputs))
        return tensors_of(features(model, inputs[0]))

    def measured(name: str) -> Alternative | None:
        other, given = copy.deepcopy(model), inputs
        if not _change(other, name):
            return None
        # Some of MMDetection's backbones return None here.
        other.eval()
        if name == 'channels-last':
            given = tree_map_only(Tensor, _channels_last, inputs)
        if not _agree(expected, values(other, given)):
            return Alternative(name, problem='gives other values')
        runs = {
            'as is': lambda: run(model, inputs),
            name: lambda: run(other, given),
        }
        times = interleave(runs, watch, effort)
        own, others = times['as is'].times_ms, times[name].times_ms
        return Alternative(name, median(others), ratio(own, others))

    results = []
    with torch.no_grad():
        expected = values(model, inputs)
        for name in ways:
            try:
                results.append(measured(name))
            except Exception as error:
                # A model or compiler may fail in any way.
                results.append(Alternative(name, problem=reason_of(error)))
    return [each for each in results if each is not None]


def _change(model: nn.Module, name: str) -> bool:
    """Whether it changes anything."""
    modules = list(model.modules())
    if name == FOLDED:
        fold(model)
        return any(isinstance(module, _BatchNorm) for module in modules)
    if name == 'compiled':
        # Post-processing is left as it is.
        parts = [
            module
            for part, module in model.named_children()
            if part in ('backbone', 'neck') or part.endswith('head')
        ]
        for module in parts or [model]:
            module.compile()
        return True
    is_last = name == 'channels-last'
    # This package's backbones choose a layout by themselves unless told.
    choosers = [m for m in modules if hasattr(m, 'channels_last')]
    for module in choosers:
        module.channels_last = is_last
    layouts = torch.contiguous_format, torch.channels_last
    model.to(memory_format=layouts[is_last])
    return is_last or bool(choosers)


def _channels_last(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.channels_last) if x.dim() == 4 else x


def _agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    return len(expected) == len(found) and all(
        a.shape == b.shape
        and (not a.numel() or (a - b).abs().max() <= TOLERANCE * a.abs().max())
        for a, b in zip(expected, found, strict=True)
        if a.is_floating_point()
    )


MEASURED = 'measured, at least this much in nine of ten rounds'
REPLACED = 'each layer measured beside its replacement'
IN_PLACE = 'time taken now, the most to be gained'
# Share of a pass below which a gain is none.
WORTH_SAYING = 0.01
# Spread of the passes above which they tell nothing about Python.
TOO_WIDE = 0.3
# Kinds of work that compute nothing one would miss: what it is, what helps.
MISSED_BY_NOBODY = {
    operations.SHUFFLE: ('channel shuffle', ''),
    operations.DATA: ('copies, concatenation, resizing', ''),
    operations.POST: (
        'post-processing',
        '; fewer candidates (nms_pre and max_per_img in an mmdet test_cfg) '
        'make it less',
    ),
    operations.ELEMENTWISE: (
        f'G4, {RULES["G4"]}',
        '; fuse them into the convolutions before them (torch.compile, an '
        'inference runtime)',
    ),
}


@dataclass(frozen=True)
class Advice:
    """One thing that may help.

    Attributes:
        ms: to be gained in a pass.
        text: what it is about, and where most of it is.
        how: how the gain is known.
    """

    ms: float
    text: str
    how: str


def advise(found: Analysis) -> list[Advice]:
    """What would help, the most first."""
    return [a for a in everything(found) if a.ms > WORTH_SAYING * found.ms]


def no_gain(found: Analysis) -> list[str]:
    """What one might try, and what was measured to bring nothing here."""
    tried = [a for a in everything(found) if a.how != IN_PLACE]
    return [a.text for a in tried if a.ms <= WORTH_SAYING * found.ms]


def everything(found: Analysis) -> list[Advice]:
    """What may help, by its gain."""
    advice = []
    for other in found.alternatives:
        ms, said = 0.0, other.problem
        if other.speedup is not None:
            _, low, high = other.speedup
            said = f'{low:.2f} to {high:.2f} times as fast'
            ms = found.ms * (1 - 1 / low)
        advice.append(Advice(ms, f'{WAYS[other.name]} ({said})', MEASURED))
    # Element-wise work (G4) is among what takes time now.
    rules = dict.fromkeys(breach.rule for breach in found.breaches)
    for rule in filter('G4'.__ne__, rules):
        broken = [b for b in found.breaches if b.rule == rule]
        worst = max(broken, key=lambda breach: breach.ms or 0)
        unknown = sum(breach.ms is None for breach in broken)
        text = (
            f'{rule}, {RULES[rule]}: {len(broken)} layers'
            f'{f" ({unknown} of them not measured)" if unknown else ""}, most '
            f'{found.layers[worst.layer].name} ({worst.reason}; instead '
            f'{worst.instead})'
        )
        ms = sum(breach.ms or 0 for breach in broken)
        advice.append(Advice(ms, text, REPLACED))
    faster = [
        a.name for a in found.alternatives if a.speedup and a.speedup.p10 > 1
    ]
    for kind, (what, hint) in MISSED_BY_NOBODY.items():
        chosen = [layer for layer in found.layers if layer.kind == kind]
        if FOLDED in faster:
            # What was measured to go by folding is said already.
            chosen = [e for e in chosen if 'BatchNorm' not in e.type]
        times: Counter[str] = Counter()
        for layer in chosen:
            is_type = kind == operations.ELEMENTWISE
            times[layer.type if is_type else layer.name] += layer.ms
        most = [f'{name} {ms:.3g} ms' for name, ms in times.most_common(3)]
        mb = sum(layer.bytes for layer in chosen) / 1e6
        text = f'{what}: {len(chosen)} times, {mb:.3g} MB moved, most '
        text += ', '.join(most) + hint
        advice.append(Advice(times.total(), text, IN_PLACE))
    # On a busy machine the median pass waited for other work, too; where
    # passes differ widely, nobody can tell for how long.
    whole = found.times.whole_ms
    if whole.width <= TOO_WIDE:
        ms = found.kinds_ms[BETWEEN] - (whole.median - whole.p10)
        text = 'Python and starting operations: compile the network, or '
        text += 'replay it as a CUDA graph'
        advice.append(Advice(ms, text, IN_PLACE))
    return sorted(advice, key=lambda each: -each.ms)
