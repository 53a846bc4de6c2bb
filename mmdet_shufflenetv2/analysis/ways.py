"""Other ways to run a network, each measured in turn with it as it is.

Only those that leave its values as they are: what is faster can be had at
once.
"""

import copy
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from ..measure.networks import fold
from ..measure.timing import Effort, Spread, Stopwatch, interleave, ratio
from .operations import tensors_of
from .twins import reason_of

# Largest difference to the network as it is, of the largest value.
TOLERANCE = 1e-2
FOLDED = 'batch norm folded'
# What to do to have a way; `_change` does it to a copy of the network.
WAYS = {
    FOLDED: 'fold batch norms into the convolutions before them, as '
    'mmcv.cnn.fuse_conv_bn and torch.nn.utils.fuse_conv_bn_eval do',
    'channels-last': 'keep maps channels-last: model.to(memory_format='
    'torch.channels_last) and the images, too',
    'contiguous': 'keep maps contiguous: in the backbone channels_last=False',
    'compiled': 'compile backbone, neck and heads: module.compile()',
}
DEFAULT_WAYS = (FOLDED, 'channels-last', 'contiguous')


class Alternative(NamedTuple):
    """What one of `WAYS` was measured to give, or why it was not measured."""

    name: str
    ms: float | None = None
    # How many times faster than as it is.
    speedup: Spread | None = None
    problem: str | None = None


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
    model.to(memory_format=_layout(is_last))
    return is_last or bool(choosers)


def _layout(is_last: bool) -> torch.memory_format:
    return torch.channels_last if is_last else torch.contiguous_format


def measure_ways(
    model: nn.Module,
    inputs: tuple,
    run: Callable[[nn.Module, tuple], object],
    features: Callable[[nn.Module, Tensor], object] | None,
    watch: Stopwatch,
    ways: Sequence[str] = DEFAULT_WAYS,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
) -> list[Alternative]:
    """Measure a network in several ways, each against it as it is.

    Those that change nothing are left out. ``features`` gives the tensors
    that have to stay the same, from a model and its first input; by default
    they are those of a pass.
    """

    def values(model: nn.Module, inputs: tuple) -> list[Tensor]:
        if features is None:
            return tensors_of(run(model, inputs))
        return tensors_of(features(model, inputs[0]))

    def laid_out(x: Tensor) -> Tensor:
        return x.clone(memory_format=_layout(True)) if x.dim() == 4 else x

    def measured(name: str) -> Alternative | None:
        other, given = copy.deepcopy(model), inputs
        if not _change(other, name):
            return None
        # Some of MMDetection's backbones return None here.
        other.eval()
        if name == 'channels-last':
            given = tree_map_only(Tensor, laid_out, inputs)
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


def _agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    return len(expected) == len(found) and all(
        a.shape == b.shape
        and (not a.numel() or (a - b).abs().max() <= TOLERANCE * a.abs().max())
        for a, b in zip(expected, found, strict=True)
        if a.is_floating_point()
    )
