"""Rank what would make a network faster on this machine.

Each gain states its source: another way to run the network, timed in turn
with the unchanged network; a layer timed against its twin; or simply the time
that some work takes now. Gains overlap and do not add up.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from ..measure.networks import fold
from ..measure.timing import Effort, Stopwatch, interleave, ratio
from . import operations
from .operations import BETWEEN, tensors_of
from .twins import RULES, reason_of

if TYPE_CHECKING:
    from .analysis import Analysis

FOLDED = 'batch norm folded'
# Ways to run a network that do not change its outputs, and how to apply them;
# `_change` applies them to a copy.
WAYS = {
    FOLDED: 'fold batch norms into the convolutions before them, as '
    'mmcv.cnn.fuse_conv_bn and torch.nn.utils.fuse_conv_bn_eval do',
    'channels-last': 'keep maps channels-last: model.to(memory_format='
    'torch.channels_last), and the same for the images',
    'contiguous': 'keep maps contiguous: channels_last=False in the backbone',
    'compiled': 'compile backbone, neck and heads: module.compile()',
}
DEFAULT_WAYS = (FOLDED, 'channels-last', 'contiguous')
# Largest difference of outputs, relative to their largest value.
TOLERANCE = 1e-2

MEASURED = 'measured, at least this much in nine of ten rounds'
REPLACED = 'each layer measured against its replacement'
IN_PLACE = 'time taken now, an upper bound of the gain'


@dataclass(frozen=True)
class Advice:
    """A change that may make a network faster.

    Attributes:
        ms: gain per pass; 0 if the change could not be measured.
        text: what to change, and which layers matter most.
        how: how the gain was determined.
    """

    ms: float
    text: str
    how: str


def measure_ways(
    model: nn.Module,
    inputs: tuple,
    run: Callable[[nn.Module, tuple], object],
    features: Callable[[nn.Module, Tensor], object] | None,
    watch: Stopwatch,
    pass_ms: float,
    ways: Sequence[str] = DEFAULT_WAYS,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
) -> dict[str, Advice]:
    """Time ways to run a network, each in turn with the unchanged network.

    Ways that change nothing are left out. ``features`` maps a model and its
    first input to the tensors that must stay the same; by default these are
    the outputs of ``run``. Gains are shares of ``pass_ms``.
    """

    def outputs(model: nn.Module, inputs: tuple) -> list[Tensor]:
        if features is None:
            return tensors_of(run(model, inputs))
        return tensors_of(features(model, inputs[0].clone()))

    def measured(name: str) -> tuple[float, str] | None:
        """The gain, and how it was reached or why it was not."""
        other, given = copy.deepcopy(model), inputs
        if not _change(other, name):
            return None
        # Not chained: `eval` of some MMDetection backbones returns None.
        other.eval()
        if name == 'channels-last':
            given = tree_map_only(Tensor, _channels_last, inputs)
        if not _agree(expected, outputs(other, given)):
            return 0.0, 'changes the outputs'
        runs = {
            'as is': lambda: run(model, inputs),
            name: lambda: run(other, given),
        }
        own, others = interleave(runs, watch, effort).values()
        _, low, high = ratio(own.times_ms, others.times_ms)
        gain = pass_ms * (1 - 1 / low)
        return gain, f'{low:.2f} to {high:.2f} times as fast'

    results = {}
    with torch.no_grad():
        expected = outputs(model, inputs)
        for name in ways:
            try:
                found = measured(name)
            except Exception as error:
                # Models and compilers may raise any exception.
                found = 0.0, reason_of(error)
            if found:
                gain, outcome = found
                text = f'{WAYS[name]} ({outcome})'
                results[name] = Advice(gain, text, MEASURED)
    return results


def _change(model: nn.Module, name: str) -> bool:
    """Apply one of `WAYS` in place; returns whether it had any effect."""
    modules = list(model.modules())
    if name == FOLDED:
        fold(model)
        return any(isinstance(module, _BatchNorm) for module in modules)
    if name == 'compiled':
        # Leave out post-processing.
        parts = [
            module
            for part, module in model.named_children()
            if part in ('backbone', 'neck') or part.endswith('head')
        ]
        for module in parts or [model]:
            module.compile()
        return True
    is_last = name == 'channels-last'
    # This package's backbones choose a layout unless it is set.
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


# Gains below this share of a pass do not count as gains.
_MIN_GAIN = 0.01
# Largest spread of the passes at which Python's overhead can be told.
_MAX_SPREAD = 0.3
# Kinds of work that are overhead: (description, what helps).
_OVERHEAD = {
    operations.SHUFFLE: ('channel shuffle', ''),
    operations.DATA: ('copies, concatenation, resizing', ''),
    operations.POST: (
        'post-processing',
        '; reduce the candidates (nms_pre and max_per_img in the test_cfg of '
        'mmdet)',
    ),
    operations.ELEMENTWISE: (
        f'G4, {RULES["G4"]}',
        '; fuse them into the convolutions before them (torch.compile, an '
        'inference runtime)',
    ),
}


def advise(found: Analysis) -> list[Advice]:
    """Changes that would help, the largest gain first."""
    return [a for a in _candidates(found) if a.ms > _MIN_GAIN * found.ms]


def no_gain(found: Analysis) -> list[str]:
    """Changes that were measured and would not help on this machine."""
    tried = [a for a in _candidates(found) if a.how != IN_PLACE]
    return [a.text for a in tried if a.ms <= _MIN_GAIN * found.ms]


def _candidates(found: Analysis) -> list[Advice]:
    """All changes, useful or not, the largest gain first."""
    advice = list(found.ways.values())
    # Element-wise work (G4) has no twin and is part of `_OVERHEAD`.
    rules = dict.fromkeys(breach.rule for breach in found.breaches)
    for rule in filter('G4'.__ne__, rules):
        broken = [b for b in found.breaches if b.rule == rule]
        worst = max(broken, key=lambda breach: breach.ms or 0)
        unknown = sum(breach.ms is None for breach in broken)
        text = (
            f'{rule}, {RULES[rule]}: {len(broken)} layers'
            f'{f" ({unknown} of them not measured)" if unknown else ""}, '
            f'mainly {found.layers[worst.layer].name} ({worst.reason}; '
            f'replacement: {worst.instead})'
        )
        ms = sum(breach.ms or 0 for breach in broken)
        advice.append(Advice(ms, text, REPLACED))
    folded = found.ways.get(FOLDED)
    for kind, (what, hint) in _OVERHEAD.items():
        chosen = [layer for layer in found.layers if layer.kind == kind]
        if folded and folded.ms > 0:
            # Folding is already listed with its measured gain.
            chosen = [e for e in chosen if 'BatchNorm' not in e.type]
        times: Counter[str] = Counter()
        for layer in chosen:
            is_type = kind == operations.ELEMENTWISE
            times[layer.type if is_type else layer.name] += layer.ms
        most = [f'{name} {ms:.3g} ms' for name, ms in times.most_common(3)]
        mb = sum(layer.bytes for layer in chosen) / 1e6
        text = f'{what}: {len(chosen)} calls, {mb:.3g} MB moved, mainly '
        text += ', '.join(most) + hint
        advice.append(Advice(times.total(), text, IN_PLACE))
    # On a busy machine the median pass also waits for other work; if passes
    # differ widely, it is unknown for how long.
    whole = found.times.whole_ms
    if whole.width <= _MAX_SPREAD:
        ms = found.kinds_ms[BETWEEN] - (whole.median - whole.p10)
        text = 'Python and launching operations: compile the network, or '
        text += 'replay it as a CUDA graph'
        advice.append(Advice(ms, text, IN_PLACE))
    return sorted(advice, key=lambda each: -each.ms)
