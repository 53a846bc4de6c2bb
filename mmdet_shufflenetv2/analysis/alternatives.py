"""What could stand instead, measured in turn with what there is.

Of the whole network other ways to run it, and only those that leave its
values as they are: what is faster here can be had at once. Of a single
convolution another one, each alone. Alone, a layer finds its input in a cache
where that is large enough; in the network it may not, so only the ratio of
the two says something about the network.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones.base import StagedBackbone
from ..measure.memory import is_out_of_memory
from ..measure.networks import fold, place
from ..measure.setting import Setting
from ..measure.timing import Effort, Spread, interleave, ratio, spread
from .cost import Convolution
from .networks import Subject
from .operations import Window

# Largest difference to the network as it is, of the largest value.
TOLERANCE = 1e-2
AS_IS = 'as is'


@dataclass(frozen=True)
class Way:
    """One way to run a network.

    Attributes:
        advice: what to do to have it.
        change: gives the changed model; may change its argument, a copy.
        changes: the type of module without which nothing would change.
    """

    advice: str
    change: Callable[[nn.Module, Setting], nn.Module]
    changes: type[nn.Module] = nn.Module


def _placed(layout: str) -> Callable[[nn.Module, Setting], nn.Module]:
    return lambda model, setting: place(model, replace(setting, layout=layout))


def _folded(model: nn.Module, setting: Setting) -> nn.Module:
    fold(model)
    return model


def _compiled(model: nn.Module, setting: Setting) -> nn.Module:
    """Compile backbone, neck and heads; post-processing is left as it is."""
    parts = [
        module
        for name, module in model.named_children()
        if name in ('backbone', 'neck') or name.endswith('head')
    ]
    for module in parts or [model]:
        module.compile()
    return model


WAYS = {
    'batch norm folded': Way(
        'fold batch norms into the convolutions before them, as '
        'mmcv.cnn.fuse_conv_bn does',
        _folded,
        _BatchNorm,
    ),
    'channels-last': Way(
        'keep maps channels-last: model.to(memory_format='
        'torch.channels_last) and the images, too',
        _placed('channels_last'),
    ),
    'contiguous': Way(
        'keep maps contiguous: in the backbone channels_last=False',
        _placed('contiguous'),
        StagedBackbone,
    ),
    'compiled': Way(
        'compile backbone, neck and heads: module.compile()', _compiled
    ),
}
DEFAULT_WAYS = ('batch norm folded', 'channels-last', 'contiguous')


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


def measure_alternatives(
    subject: Subject,
    image: Tensor,
    setting: Setting,
    ways: Sequence[str] = DEFAULT_WAYS,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
    progress: Callable[[], object] = lambda: None,
) -> list[Alternative]:
    """Measure a network in several ways, each against it as it is.

    Args:
        subject: the network, which stays as it is.
        image: (N, 3, H, W).
        setting: under which it runs.
        ways: keys of ``WAYS``; those that change nothing are left out.
        effort: for each.
        progress: called after each.
    """
    with torch.no_grad():
        expected = subject.features(image)
    results = []
    for name in ways:
        kinds = WAYS[name].changes
        if any(isinstance(m, kinds) for m in subject.model.modules()):
            results.append(
                _measure(name, subject, image, setting, expected, effort)
            )
        progress()
    return results


def _measure(
    name: str,
    subject: Subject,
    image: Tensor,
    setting: Setting,
    expected: Mapping[str, Tensor],
    effort: Effort,
) -> Alternative:
    try:
        model = WAYS[name].change(copy.deepcopy(subject.model), setting)
        # Some of MMDetection's backbones return None here.
        model.eval()
        other = replace(subject, model=model)
        layout = torch.preserve_format
        if name == 'channels-last':
            layout = torch.channels_last
        given = image.clone(memory_format=layout)
        with torch.no_grad():
            if not _agree(expected, other.features(given)):
                return Alternative(name, problem='gives other values')
            times = interleave(
                {
                    AS_IS: lambda: subject.run(image),
                    name: lambda: other.run(given),
                },
                setting.stopwatch(),
                effort,
            )
    except Exception as error:
        # A model or compiler may fail in any way; the network itself ran.
        first = str(error).strip().partition('\n')[0]
        reason = f'fails with {type(error).__name__}: {first}'
        if is_out_of_memory(error):
            reason = 'does not fit in memory'
        return Alternative(name, problem=reason)
    own, others = times[AS_IS].times_ms, times[name].times_ms
    return Alternative(name, spread(others).median, ratio(own, others))


def _agree(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        (a[key] - b[key]).abs().max() <= TOLERANCE * a[key].abs().max()
        for key in a
    )


@dataclass(frozen=True)
class Trial:
    """A convolution to be run alone."""

    convolution: Convolution
    window: Window


EFFORT = Effort(min_runs=5, max_runs=50, seconds=0.4, warmup_seconds=0.2)
# (own, other) -> milliseconds of each, None where it does not fit in memory.
Compare = Callable[[Trial, Trial], tuple[float, float] | None]


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
