"""Speed, memory and energy of a network beside those of a reference."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import torch
from torch import nn

from .energy import EnergyMeter, joules_per_run
from .memory import peak_mb, weights_mb
from .networks import inference, prepare
from .session import Row
from .setting import Setting
from .timing import (
    TIMED,
    Effort,
    Timing,
    compared,
    interleave,
    ratio_names,
    significant,
)

NOT_MEASURED = 'not measured'
SPEEDS = (
    *TIMED,
    *ratio_names('speed_ratio'),
    'images_per_s',
    'paper_per_s',
    'paper_speed_ratio',
    'weights_mb',
    'peak_mb',
    'joules',
)


@dataclass(frozen=True)
class Subject:
    """A network to be measured.

    Attributes:
        name: tells it from others.
        build: makes it, in float32 on the CPU.
        shape: (N, C, H, W) of its input.
        small_shape: of maps that it can be tried on cheaply.
    """

    name: str
    build: Callable[[], nn.Module] = field(compare=False)
    shape: tuple[int, int, int, int]
    small_shape: tuple[int, int, int, int] = (8, 3, 64, 64)


# A reference stays, for it is everybody's in its column.
@lru_cache(maxsize=2)
def _prepared(subject: Subject, setting: Setting) -> nn.Module:
    # The same weights for a name, whatever was built before it.
    torch.manual_seed(0)
    with torch.device(setting.device):
        network = subject.build()
    return prepare(network, setting, subject.small_shape)


def compare_networks(
    mine: Subject,
    reference: Subject | None,
    setting: Setting,
    effort: Effort,
    with_energy: bool,
) -> Row:
    """Measure a network, timed in turn with its reference if it has one.

    Returns:
        `SPEEDS`, but for what the paper says.
    """
    subjects = filter(None, (reference, mine))
    networks = {subject: _prepared(subject, setting) for subject in subjects}
    functions = {
        subject: inference(network, subject.shape, setting)
        for subject, network in networks.items()
    }
    times = interleave(functions, setting.stopwatch(), effort)
    plain = functions[mine]
    if setting.mode == 'graph':
        # A graph's maps are not the allocator's, those of its pass are.
        eager = replace(setting, mode='folded')
        plain = inference(networks[mine], mine.shape, eager)
    return {
        **speed(times[mine], times.get(reference), mine.shape[0]),
        'weights_mb': significant(weights_mb(networks[mine])),
        'peak_mb': significant(peak_mb(plain, setting.device)),
        'joules': joules(functions[mine], setting, with_energy),
    }


def speed(mine: Timing, reference: Timing | None, batch: int) -> Row:
    """Times, their ratio to a reference's if any, and images per second."""
    columns = mine.columns()
    ratio = compared('speed_ratio', reference or mine, mine)
    if reference is None:
        ratio = {name: '' for name in ratio} | {'doubt': ratio['doubt']}
    return {
        **columns,
        **ratio,
        'images_per_s': significant(batch * 1e3 / columns['median_ms']),
    }


def paper_columns(mine: float | None, reference: float | None) -> Row:
    """A published speed and its ratio to the reference's, or nothing."""
    if not (mine and reference):
        return {'paper_per_s': mine or '', 'paper_speed_ratio': ''}
    return {
        'paper_per_s': mine,
        'paper_speed_ratio': significant(mine / reference),
    }


def joules(
    function: Callable[[], object], setting: Setting, wanted: bool = True
) -> float | str:
    """Energy of one call, or that it was not measured."""
    if not wanted:
        return NOT_MEASURED
    try:
        meter = EnergyMeter(setting.device)
    except RuntimeError:
        return NOT_MEASURED
    wait = partial(torch.cuda.synchronize, setting.device)
    return significant(joules_per_run(function, meter, wait))
