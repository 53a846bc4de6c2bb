"""What would make a network faster here, the largest gain first.

Every gain says how it is known: another way of running the network that was
measured, a layer measured beside its replacement, or time measured in place.
Gains overlap and do not add up.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ..measure.timing import WIDE
from . import operations
from .findings import Findings
from .operations import BETWEEN
from .twins import RULES, Breach
from .ways import FOLDED, WAYS, Alternative

MEASURED = 'measured, at least this much in nine of ten rounds'
REPLACED = 'each layer measured beside its replacement'
IN_PLACE = 'time taken now, the most to be gained'

# Share of a pass below which nothing is said.
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


def advise(found: Findings) -> list[Advice]:
    """What would help most, first."""
    advice = [
        *(
            _faster(other, found)
            for other in filter(_is_faster, found.alternatives)
        ),
        *(_kept(*rule, found) for rule in _by_rule(found).items()),
        *_in_place(found),
    ]
    worth = [each for each in advice if each.ms > WORTH_SAYING * found.ms]
    return sorted(worth, key=lambda each: -each.ms)


def warnings_of(found: Findings) -> list[str]:
    """Why the times should not be trusted."""
    where, warnings = found.environment, []
    # A quick look has too little time to settle, and says so.
    if not (found.is_quick or found.times.whole.settled):
        warnings.append('warm-up did not settle')
    if found.times.whole_ms.width > WIDE:
        warnings.append(f'spread {found.times.whole_ms.width:.0%}')
    # Evenly slowed passes have no spread. Processor time leaves others out.
    load = where['load'] or 0
    if where['clock'] == 'wall' and load > where['cores']:
        warnings.append('other work for all cores before it began')
    if not found.times.repeats:
        warnings.append(
            'every pass executes other operations, so that the times of '
            'layers are those of one pass'
        )
    return warnings


def no_gain(found: Findings) -> list[str]:
    """What one might try, and what was measured to bring nothing here."""
    lines = []
    for other in found.alternatives:
        if _is_faster(other):
            continue
        said = other.problem
        if other.speedup is not None:
            _, low, high = other.speedup
            said = (
                f'no clear difference ({low:.2f} to {high:.2f} times as fast)'
            )
            if high < 1:
                said = f'{1 / other.speedup.median:.2f} times as long'
        lines.append(f'{other.name}: {said}')
    for rule, broken in _by_rule(found).items():
        total = sum(breach.ms or 0 for breach in broken)
        if total <= WORTH_SAYING * found.ms:
            gain = f'{total:.2g} ms' if total > 0 else 'nothing'
            lines.append(
                f'{_title(rule, broken)}, {gain} to be had by keeping it'
            )
    return lines


def _is_faster(other: Alternative) -> bool:
    """Whether nine of ten rounds were faster."""
    return other.speedup is not None and other.speedup.p10 > 1


def _by_rule(found: Findings) -> dict[str, list[Breach]]:
    """Breaches by their rule; element-wise work has its own advice."""
    rules: dict[str, list[Breach]] = {}
    for breach in found.breaches:
        if breach.rule != 'G4':
            rules.setdefault(breach.rule, []).append(breach)
    return rules


def _title(rule: str, broken: list[Breach]) -> str:
    unknown = sum(breach.ms is None for breach in broken)
    rest = f' ({unknown} of them not measured)' if unknown else ''
    count = f'{len(broken)} layer{"s" * (len(broken) != 1)}'
    return f'{rule}, {RULES[rule]}: {count}{rest}'


def _faster(other: Alternative, found: Findings) -> Advice:
    _, low, high = other.speedup
    text = f'{WAYS[other.name]} ({low:.2f} to {high:.2f} times as fast)'
    return Advice(found.ms * (1 - 1 / low), text, MEASURED)


def _kept(rule: str, broken: list[Breach], found: Findings) -> Advice:
    worst = max(broken, key=lambda breach: breach.ms or 0)
    return Advice(
        sum(breach.ms or 0 for breach in broken),
        f'{_title(rule, broken)}, most {found.layers[worst.layer].name} '
        f'({worst.reason}; instead {worst.instead})',
        REPLACED,
    )


# Kinds of work that compute nothing one would miss.
_MISSED_BY_NOBODY = {
    operations.SHUFFLE: 'channel shuffle: {count} times, {mb:.3g} MB moved',
    operations.DATA: 'copies, concatenation, resizing: {count} times, most '
    '{most}',
    operations.POST: 'post-processing: most {most}; fewer candidates '
    '(nms_pre and max_per_img in an mmdet test_cfg) make it less',
    operations.ELEMENTWISE: f'G4, {RULES["G4"]}: most {{types}}; fuse them '
    'into the convolutions before them (torch.compile, an inference runtime)',
}


def _in_place(found: Findings) -> Iterator[Advice]:
    """What takes time now."""
    is_folded = FOLDED in [o.name for o in found.alternatives if _is_faster(o)]
    for kind, text in _MISSED_BY_NOBODY.items():
        # What was measured to go by folding is said already.
        chosen = [
            layer
            for layer in found.layers
            if layer.kind == kind
            and not (is_folded and 'BatchNorm' in layer.type)
        ]
        types: Counter[str] = Counter()
        for layer in chosen:
            types[layer.type] += layer.ms
        if chosen:
            text = text.format(
                count=len(chosen),
                mb=sum(layer.bytes for layer in chosen) / 1e6,
                most=max(chosen, key=lambda each: each.ms).name,
                types=', '.join(
                    f'{n} {ms:.3g} ms' for n, ms in types.most_common(3)
                ),
            )
            yield Advice(sum(types.values()), text, IN_PLACE)
    # On a busy machine the median pass waited for other work, too; where
    # passes differ widely, nobody can tell for how long.
    whole = found.times.whole_ms
    between = found.kinds_ms[BETWEEN] - (whole.median - whole.p10)
    if whole.width <= TOO_WIDE:
        yield Advice(
            between,
            'Python and starting operations: compile the network, or replay '
            'it as a CUDA graph',
            IN_PLACE,
        )
