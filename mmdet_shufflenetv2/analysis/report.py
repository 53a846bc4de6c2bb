"""The analysis as text: what to do first, then where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from ..measure.timing import WIDE
from . import operations
from .advice import WORTH_SAYING, advise, distances, no_gain, warnings_of
from .operations import BETWEEN
from .receptive_field import Field, effective_size

if TYPE_CHECKING:
    from .analysis import Analysis

# Share of a pass that may be unexplained without a word.
UNEXPLAINED = 0.1
_BAR = 24
_WIDTH = 100


def report(analysis: Analysis, most: int | None = None) -> str:
    """The whole report.

    Args:
        analysis: what was found.
        most: lines of advice and of layers; None for all.
    """
    sections = (
        _head(analysis),
        _advice(analysis, most),
        _kinds(analysis),
        _parts(analysis),
        _distances(analysis),
        _fields(analysis),
        _layers(analysis, most),
    )
    texts = ('\n'.join(section) for section in sections)
    return '\n\n'.join(text for text in texts if text) + '\n'


def _head(analysis: Analysis) -> Iterator[str]:
    where, peaks = analysis.environment, analysis.peaks
    time = analysis.times.whole_ms
    floor = sum(map(analysis.floor_ms, analysis.layers))
    shapes = ', '.join(_x(shape, ' x ') for shape in analysis.inputs)
    yield (
        f'{analysis.name}: {shapes} on '
        f'{where["device"]} ({where["cpu"]}, threads {where["threads"]}), '
        f'{where["precision"]}, {where["clock"]} clock, torch '
        f'{where["torch"]}'
    )
    yield (
        f'{time.median:.4g} ms a pass ({time.p10:.4g} to {time.p90:.4g}), '
        f'{1e3 * analysis.batch / time.median:.3g} images/s'
    )
    yield from _cautions(analysis)
    yield (
        f'{_si(analysis.flops)}FLOPs (multiply-adds), '
        f'{_si(analysis.params)} parameters, {_si(analysis.bytes)}B moved'
    )
    yield (
        f'this machine: {peaks.gmacs_per_s:.3g} GMAC/s in a matrix product,'
        f' {peaks.memory_gb_per_s:.3g} GB/s in a copy (more in caches); its '
        f'roofline for what is counted is {floor:.3g} ms, '
        f'{floor / time.median:.0%} of the time taken'
    )
    if analysis.peak_mb is not None:
        yield (
            f'memory: weights {analysis.weights_mb:.3g} MB, maps and what '
            f'operations need {analysis.peak_mb:.3g} MB at most'
        )
    yield from analysis.notes
    if analysis.not_counted:
        names = ', '.join(
            f'{name.replace("::", ".")} ({count})'
            for name, count in analysis.not_counted.items()
        )
        yield f'not counted in FLOPs: {names}'
    for problem in analysis.problems:
        yield f'not found out: {problem}'


def _cautions(analysis: Analysis) -> Iterator[str]:
    """How much the times are to be believed."""
    if analysis.is_quick:
        passes = len(analysis.times.whole.times_ms)
        yield (
            f'a first look (--quick): {passes} passes; take the figures '
            'below for their order of magnitude'
        )
    found = warnings_of(analysis)
    if found:
        where = analysis.environment
        way = ', or count processor time (--threads 1 --clock cpu)'
        yield (
            f'WARNING: {", ".join(found)}, at a load of {where["load"]} on '
            f'{where["cores"]} cores. Measure again when this machine does '
            f'nothing else{way * (where["clock"] == "wall")}'
        )


def _advice(analysis: Analysis, most: int | None) -> Iterator[str]:
    yield 'What would help, and how much of a pass (gains overlap)'
    advice = advise(analysis)
    for number, each in enumerate(advice[:most], start=1):
        yield from wrap(
            f'{each.text} [{each.how}]',
            _WIDTH,
            initial_indent=f'{number:2}. {each.ms:8.3g} ms '
            f'{each.ms / analysis.ms:5.0%}  ',
            subsequent_indent=' ' * 22,
        )
    if not advice:
        yield '    nothing that was tried or measured'
    for line in no_gain(analysis):
        yield f'    no gain: {line}'


def _kinds(analysis: Analysis) -> Iterator[str]:
    yield 'Where the time goes (Figure 2 of the paper)'
    for kind, ms in analysis.kinds_ms.items():
        share = ms / analysis.ms
        bar = '#' * round(_BAR * max(share, 0))
        yield f'    {kind:20} {ms:9.3g} ms {share:5.0%}  {bar}'
    yield from _unexplained(analysis)
    if analysis.times.repeats and analysis.times.strays:
        yield (
            f'    {analysis.times.strays} passes executed other operations '
            'and were left out.'
        )


def _unexplained(analysis: Analysis) -> Iterator[str]:
    share = analysis.kinds_ms[BETWEEN] / analysis.ms
    if abs(share) <= UNEXPLAINED:
        return
    rest = 'Python, starting operations, and on a GPU waiting for both'
    if analysis.times.whole_ms.width > WIDE:
        rest += ', or other work of this machine, which is not quiet'
        if analysis.environment['clock'] == 'wall':
            rest += ' (--threads 1 --clock cpu leaves it out)'
    if share < 0:
        rest = 'noise: they took longer when they were timed'
    yield (
        f'    The layers explain {1 - share:.0%} of a pass. '
        f'The rest is {rest}.'
    )


def _parts(analysis: Analysis) -> Iterator[str]:
    yield 'By part: ms, and the share of element-wise work'
    for part, kinds in analysis.parts_ms.items():
        total = sum(kinds.values())
        share = kinds.get(operations.ELEMENTWISE, 0) / total if total else 0
        most = max(kinds, key=kinds.get)
        yield (
            f'    {part:24} {total:9.3g} ms {total / analysis.ms:5.0%}   '
            f'element-wise {share:4.0%}   most {most}'
        )


def _distances(analysis: Analysis) -> Iterator[str]:
    yield (
        'Kinds of layers against what this machine could do (floor: the '
        'roofline; start: launching so many operations)'
    )
    yield (
        f'    {"kind":20} {"layers":>6} {"ms":>9} {"floor ms":>9} '
        f'{"start ms":>9}   slowest'
    )
    for each in distances(analysis):
        if each.ms > WORTH_SAYING * analysis.ms:
            yield (
                f'    {each.name:20} {each.count:6} {each.ms:9.3g} '
                f'{each.floor_ms:9.3g} {each.starting_ms:9.3g}   '
                f'{each.slowest}'
            )


def _fields(analysis: Analysis) -> Iterator[str]:
    """One line for each level whose field is known, either way."""
    names = dict.fromkeys([*analysis.fields, *analysis.gradients])
    if not names:
        return
    yield (
        'Receptive fields in pixels; effective: the side of the area whose '
        'gradient matters'
    )
    for name in names:
        field = analysis.fields.get(name)
        yield (
            f'    {name:12} stride {_side(field and field.stride):8} '
            f'theoretical {_theoretical(field):10} '
            f'effective {_effective(analysis, name)}'
        )


def _theoretical(field: Field | None) -> str:
    larger = 'over ' if field is not None and field.is_larger else ''
    return larger + _side(field and field.size)


def _effective(analysis: Analysis, name: str) -> str:
    if name not in analysis.gradients:
        return 'not measured'
    gradients = analysis.gradients[name]
    size = effective_size(gradients)
    # A disc that touches the image's edges fills so much of it.
    over = 'over ' if size > 0.8 * min(gradients.shape) else ''
    weights = '' if analysis.is_trained else ' (random weights)'
    return f'{over}{size:.0f}{weights}'


def _side(pair: Sequence[float] | None) -> str:
    if pair is None:
        return 'unknown'
    sides = [f'{side:.4g}' for side in pair]
    return sides[0] if sides[0] == sides[1] else ' x '.join(sides)


def _layers(analysis: Analysis, most: int | None) -> Iterator[str]:
    yield (
        f'Slowest of {len(analysis.layers)} layers (of peak: its GMAC/s of '
        'those of a matrix product; x floor: its time over the roofline)'
    )
    yield (
        f'    {"ms":>8} {"share":>5} {"of peak":>7} {"x floor":>8}  layer '
        '(type, output) and what it breaks'
    )
    rules: dict[int, list[str]] = {}
    for breach in analysis.breaches:
        rules.setdefault(breach.layer, []).append(breach.rule)
    peak = 1e6 * analysis.peaks.gmacs_per_s
    order = sorted(enumerate(analysis.layers), key=lambda pair: -pair[1].ms)
    for index, layer in order[:most]:
        floor = analysis.floor_ms(layer)
        yield (
            f'    {layer.ms:8.3g} {layer.ms / analysis.ms:5.1%} '
            f'{layer.per_ms(layer.flops) / peak:7.0%} '
            f'{f"{layer.ms / floor:.1f}" if floor else "":>8}  '
            f'{layer.name} ({layer.type}, {_x(layer.out_shape)}) '
            f'{" ".join(rules.get(index, []))}'.rstrip()
        )
    if any(each.flops > 1.05 * each.ms * peak for each in analysis.layers):
        yield (
            '    Above 100 %: fast algorithms for 3x3 kernels do fewer '
            'multiplications than are counted.'
        )


def _x(shape: Sequence[int], sign: str = 'x') -> str:
    return sign.join(map(str, shape))


def _si(number: float) -> str:
    for scale, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= scale:
            return f'{number / scale:.4g} {letter}'
    return f'{number:.4g} '
