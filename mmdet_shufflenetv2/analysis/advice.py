"""What would make a network faster here, the largest gain first.

Every gain says how it is known: another way of running the network that was
measured, a layer measured beside its replacement, or time measured in place.
Gains overlap and do not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..measure.timing import WIDE
from . import operations
from .layers import Layer
from .operations import BETWEEN
from .twins import RULES, Breach
from .ways import FOLDED, WAYS, Alternative

if TYPE_CHECKING:
    from .analysis import Analysis

MEASURED = 'measured, at least this much in nine of ten rounds'
REPLACED = 'each layer measured beside its replacement'
IN_PLACE = 'time taken now, the most to be gained'

# Shares of a pass below which nothing is said.
WORTH_SAYING = 0.01
# Spread of the passes above which they tell nothing about Python.
TOO_WIDE = 0.3


class Advice(NamedTuple):
    """One thing that would help.

    Attributes:
        ms: to be gained in a pass.
        text: what it is about, and where most of it is.
        how: how the gain is known.
    """

    ms: float
    text: str
    how: str


def advise(analysis: Analysis) -> list[Advice]:
    """What would help most, first."""
    found = [
        advice
        for source in (_ways, _guidelines, _work, _elementwise, _between)
        for advice in source(analysis)
        if advice.ms > WORTH_SAYING * analysis.ms
    ]
    return sorted(found, key=lambda advice: -advice.ms)


def warnings_of(analysis: Analysis) -> list[str]:
    """Why the times should not be trusted."""
    found = []
    # A quick look has too little time to settle, and says so.
    if not (analysis.is_quick or analysis.times.whole.settled):
        found.append('warm-up did not settle')
    if analysis.times.whole_ms.width > WIDE:
        found.append(f'spread {analysis.times.whole_ms.width:.0%}')
    where = analysis.environment
    # Evenly slowed passes have no spread. Processor time leaves others out.
    if where['clock'] == 'wall' and where['load'] > where['cores']:
        found.append('other work for all cores before it began')
    if not analysis.times.repeats:
        found.append(
            'every pass executes other operations, so that the times of '
            'layers are those of one pass'
        )
    return found


def no_gain(analysis: Analysis) -> list[str]:
    """What one might try, and what was measured to bring nothing here."""
    lines = [
        f'{other.name}: {_outcome(other)}'
        for other in analysis.alternatives
        if not _is_faster(other)
    ]
    for rule, broken, total in _by_rule(analysis):
        if total <= WORTH_SAYING * analysis.ms:
            gain = f'{total:.2g} ms' if total > 0 else 'nothing'
            lines.append(
                f'{rule}, {RULES[rule]}: {_layers_of(broken)}, {gain} to be '
                'had by keeping it'
            )
    return lines


def _outcome(other: Alternative) -> str:
    if other.speedup is None:
        return other.problem
    low, high = other.speedup.p10, other.speedup.p90
    if high < 1:
        return f'{1 / other.speedup.median:.2f} times as long'
    return f'no clear difference ({low:.2f} to {high:.2f} times as fast)'


def _is_faster(other: Alternative) -> bool:
    """Whether nine of ten rounds were faster."""
    return other.speedup is not None and other.speedup.p10 > 1


def _ways(analysis: Analysis) -> Iterator[Advice]:
    for other in filter(_is_faster, analysis.alternatives):
        low, high = other.speedup.p10, other.speedup.p90
        yield Advice(
            analysis.ms * (1 - 1 / low),
            f'{WAYS[other.name].advice} ({low:.2f} to {high:.2f} times '
            'as fast)',
            MEASURED,
        )


def _by_rule(analysis: Analysis) -> list[tuple[str, list[Breach], float]]:
    """Rule, breaches, their cost; element-wise work has its own advice."""
    rules: dict[str, list[Breach]] = {}
    for breach in analysis.breaches:
        if breach.rule != 'G4':
            rules.setdefault(breach.rule, []).append(breach)
    return [
        (rule, broken, sum(breach.ms or 0 for breach in broken))
        for rule, broken in rules.items()
    ]


def _guidelines(analysis: Analysis) -> Iterator[Advice]:
    for rule, broken, total in _by_rule(analysis):
        worst = max(broken, key=lambda breach: breach.ms or 0)
        yield Advice(
            total,
            f'{rule}, {RULES[rule]}: {_layers_of(broken)}, most '
            f'{analysis.layers[worst.layer].name} ({worst.reason}; instead '
            f'{worst.instead})',
            REPLACED,
        )


def _work(analysis: Analysis) -> Iterator[Advice]:
    """Time of kinds of work that compute nothing one would miss."""
    texts = {
        operations.SHUFFLE: 'channel shuffle: {count}, {mb:.3g} MB moved',
        operations.DATA: 'copies, concatenation, resizing: {count}, most '
        '{most}',
        operations.POST: 'post-processing: most {most}; fewer candidates '
        '(nms_pre and max_per_img in an mmdet test_cfg) make it less',
    }
    for kind, text in texts.items():
        chosen = [layer for layer in analysis.layers if layer.kind == kind]
        if chosen:
            text = text.format(
                count=_count(len(chosen), 'time'),
                mb=sum(layer.bytes for layer in chosen) / 1e6,
                most=max(chosen, key=lambda each: each.ms).name,
            )
            yield Advice(analysis.kinds_ms[kind], text, IN_PLACE)


def _between(analysis: Analysis) -> Iterator[Advice]:
    # On a busy machine the median pass waited for other work, too; where
    # passes differ widely, nobody can tell for how long.
    whole = analysis.times.whole_ms
    between = analysis.kinds_ms[BETWEEN] - (whole.median - whole.p10)
    if between > 0 and whole.width <= TOO_WIDE:
        yield Advice(
            between,
            'Python and starting operations: compile the network, or replay '
            'it as a CUDA graph',
            IN_PLACE,
        )


def _elementwise(analysis: Analysis) -> Iterator[Advice]:
    """G4, without what was measured to go by folding."""
    is_folded = any(
        other.name == FOLDED and _is_faster(other)
        for other in analysis.alternatives
    )
    times: Counter[str] = Counter()
    for layer in analysis.layers:
        if layer.kind == operations.ELEMENTWISE and not (
            is_folded and 'BatchNorm' in layer.type
        ):
            times[layer.type] += layer.ms
    if times:
        most = ', '.join(
            f'{name} {ms:.3g} ms' for name, ms in times.most_common(3)
        )
        yield Advice(
            sum(times.values()),
            f'G4, {RULES["G4"]}: {most}; fuse them into the convolutions '
            'before them (torch.compile, an inference runtime)',
            IN_PLACE,
        )


def _layers_of(broken: Sequence[Breach]) -> str:
    unknown = sum(breach.ms is None for breach in broken)
    rest = f' ({unknown} of them not measured)' if unknown else ''
    return _count(len(broken), 'layer') + rest


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}{"s" * (number != 1)}'


@dataclass(frozen=True)
class Distance:
    """The layers of one kind together, against the roofline.

    Attributes:
        name: such as ``'depthwise 3x3'``.
        count: how many there are.
        ms: what they take.
        floor_ms: what the roofline allows.
        starting_ms: what starting so many convolutions takes at least.
        slowest: name of the one that takes most.
    """

    name: str
    count: int
    ms: float
    floor_ms: float
    starting_ms: float
    slowest: str


def _class(layer: Layer) -> str:
    conv = layer.convolution
    if layer.kind != operations.CONVOLUTION or conv is None:
        return layer.kind
    shape = 'x'.join(map(str, conv.kernel_size))
    if conv.is_depthwise:
        return f'depthwise {shape}'
    return f'{shape} in groups' if conv.groups > 1 else f'{shape} convolution'


def distances(analysis: Analysis) -> list[Distance]:
    """Every kind of layer with a roofline, farthest first in milliseconds."""
    groups: dict[str, list[Layer]] = {}
    for layer in analysis.layers:
        # Rates say nothing about suppression.
        if layer.bytes and layer.kind not in (
            operations.POST,
            operations.OTHER,
        ):
            groups.setdefault(_class(layer), []).append(layer)
    found = [
        Distance(
            name=name,
            count=len(chosen),
            ms=sum(layer.ms for layer in chosen),
            floor_ms=sum(map(analysis.floor_ms, chosen)),
            starting_ms=len(chosen) * analysis.peaks.start_ms,
            slowest=max(chosen, key=lambda each: each.ms).name,
        )
        for name, chosen in groups.items()
    ]
    return sorted(found, key=lambda each: each.floor_ms - each.ms)
