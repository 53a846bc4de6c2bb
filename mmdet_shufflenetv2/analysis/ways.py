"""Other ways to run a network, each measured in turn with it as it is.

Only those that leave its values as they are: what is faster here can be had
at once.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from ..measure.memory import is_out_of_memory
from ..measure.networks import fold
from ..measure.timing import (
    Effort,
    Spread,
    Stopwatch,
    interleave,
    ratio,
    spread,
)
from .operations import tensors_of

# Largest difference to the network as it is, of the largest value.
TOLERANCE = 1e-2
AS_IS = 'as is'
CHANNELS_LAST = 'channels-last'
FOLDED = 'batch norm folded'


class Way(NamedTuple):
    """One way to run a network.

    Attributes:
        advice: what to do to have it.
        change: changes a copy of the network.
        applies: whether it would change anything.
    """

    advice: str
    change: Callable[[nn.Module], object]
    applies: Callable[[nn.Module], bool] = lambda model: True


def _lay_out(model: nn.Module, is_last: bool) -> None:
    """This package's backbones choose a layout by themselves unless told."""
    for module in model.modules():
        if hasattr(module, 'channels_last'):
            module.channels_last = is_last
    layout = torch.channels_last if is_last else torch.contiguous_format
    model.to(memory_format=layout)


def _chooses_layout(model: nn.Module) -> bool:
    return any(hasattr(m, 'channels_last') for m in model.modules())


def _has_norms(model: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in model.modules())


def _compile(model: nn.Module) -> None:
    """Compile backbone, neck and heads; post-processing is left as it is."""
    parts = [
        module
        for name, module in model.named_children()
        if name in ('backbone', 'neck') or name.endswith('head')
    ]
    for module in parts or [model]:
        module.compile()


WAYS = {
    FOLDED: Way(
        'fold batch norms into the convolutions before them, as '
        'mmcv.cnn.fuse_conv_bn and torch.nn.utils.fuse_conv_bn_eval do',
        fold,
        _has_norms,
    ),
    CHANNELS_LAST: Way(
        'keep maps channels-last: model.to(memory_format='
        'torch.channels_last) and the images, too',
        lambda model: _lay_out(model, True),
    ),
    'contiguous': Way(
        'keep maps contiguous: in the backbone channels_last=False',
        lambda model: _lay_out(model, False),
        _chooses_layout,
    ),
    'compiled': Way(
        'compile backbone, neck and heads: module.compile()', _compile
    ),
}
DEFAULT_WAYS = (FOLDED, CHANNELS_LAST, 'contiguous')


@dataclass(frozen=True)
class Alternative:
    """What a way was measured to give.

    Attributes:
        name: one of ``WAYS``.
        ms: a pass; None if it was not measured.
        speedup: how many times faster than as it is.
        problem: why it was not measured.
    """

    name: str
    ms: float | None = None
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
    """Measure a network in several ways, each against it as it is.

    Args:
        model: stays as it is.
        inputs: what to run it on.
        run: one pass, of a model and inputs.
        features: gives the tensors that have to stay the same, from a model
            and its first input; by default those of a pass.
        watch: times a pass.
        ways: keys of `WAYS`; those that change nothing are left out.
        effort: for each.
    """

    def values(model: nn.Module, inputs: tuple) -> list[Tensor]:
        with torch.no_grad():
            if features is None:
                return tensors_of(run(model, inputs))
            return tensors_of(features(model, inputs[0]))

    expected = values(model, inputs)
    results = []
    for name in ways:
        way = WAYS[name]
        if not way.applies(model):
            continue
        try:
            other = copy.deepcopy(model)
            way.change(other)
            # Some of MMDetection's backbones return None here.
            other.eval()
            given = _laid_out(inputs) if name == CHANNELS_LAST else inputs
            with torch.no_grad():
                if not _agree(expected, values(other, given)):
                    results.append(
                        Alternative(name, problem='gives other values')
                    )
                    continue
                times = interleave(
                    {
                        AS_IS: lambda: run(model, inputs),
                        name: lambda other=other, given=given: run(
                            other, given
                        ),
                    },
                    watch,
                    effort,
                )
        except Exception as error:
            # A model or compiler may fail in any way; the network itself ran.
            first = str(error).strip().partition('\n')[0]
            reason = f'fails with {type(error).__name__}: {first}'
            if is_out_of_memory(error):
                reason = 'does not fit in memory'
            results.append(Alternative(name, problem=reason))
            continue
        own, others = times[AS_IS].times_ms, times[name].times_ms
        results.append(
            Alternative(name, spread(others).median, ratio(own, others))
        )
    return results


def _laid_out(inputs: tuple) -> tuple:
    def change(x: Tensor) -> Tensor:
        if x.dim() != 4:
            return x
        return x.clone(memory_format=torch.channels_last)

    return tree_map_only(Tensor, change, inputs)


def _agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    return len(expected) == len(found) and all(
        a.shape == b.shape
        and (not a.numel() or (a - b).abs().max() <= TOLERANCE * a.abs().max())
        for a, b in zip(expected, found, strict=True)
        if a.is_floating_point()
    )
