"""The analysis as text: what to do first, then where the time goes."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from ..measure.detector import CANDIDATES
from ..measure.timing import WIDE
from . import operations
from .advice import WORTH_SAYING, advise, distances, doubts, no_gain
from .analysis import BETWEEN, Analysis
from .receptive_field import Field, effective_size

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
    return '\n\n'.join('\n'.join(section) for section in sections) + '\n'


def _head(analysis: Analysis) -> Iterator[str]:
    request, where = analysis.request, analysis.environment
    height, width = request.size
    time, batch = analysis.times.whole_ms, request.batch
    floor = sum(map(analysis.floor_ms, analysis.layers))
    peaks = analysis.peaks
    yield (
        f'{analysis.name}: {batch} x 3 x {height} x {width} on '
        f'{where["device"]} ({where["cpu"]}, threads {where["threads"]}), '
        f'{where["precision"]}, {where["clock"]} clock, torch '
        f'{where["torch"]}'
    )
    yield (
        f'{time.median:.4g} ms a pass ({time.p10:.4g} to {time.p90:.4g}), '
        f'{1e3 * batch / time.median:.3g} images/s'
    )
    yield from _caution(analysis)
    yield (
        f'{_si(analysis.flops)}FLOPs (multiply-adds), '
        f'{_si(analysis.params)} parameters, {_si(analysis.bytes)}B moved'
    )
    yield (
        f'this machine: {peaks.gflops_per_s:.3g} GFLOP/s in a matrix product,'
        f' {peaks.memory_gb_per_s:.3g} GB/s in a copy (more in caches); its '
        f'roofline for what is counted is {floor:.3g} ms, '
        f'{floor / time.median:.0%} of the time taken'
    )
    yield (
        f'memory: weights {analysis.weights_mb:.3g} MB, maps and what '
        f'operations need {analysis.peak_mb:.3g} MB at most'
    )
    if analysis.no_results:
        yield f'run without predictions, which fail: {analysis.no_results}'
    if analysis.threshold is not None:
        yield (
            f'random weights: the score threshold was set to '
            f'{analysis.threshold:.3g}, which {CANDIDATES} boxes an image '
            'pass; --checkpoint FILE shows what yours do'
        )
    if analysis.not_counted:
        names = ', '.join(
            f'{name.replace("::", ".")} ({count})'
            for name, count in analysis.not_counted.items()
        )
        yield f'not counted in FLOPs: {names}'


def _caution(analysis: Analysis) -> Iterator[str]:
    """How much the times are to be believed."""
    if analysis.request.quick:
        passes = len(analysis.times.whole.times_ms)
        yield (
            f'a first look (--quick): {passes} passes; take the figures '
            'below for their order of magnitude'
        )
    found = doubts(analysis)
    if found:
        where = analysis.environment
        way = ', or count processor time (--threads 1 --clock cpu)'
        yield (
            f'DOUBTFUL: {", ".join(found)}, at a load of {where["load"]} on '
            f'{where["cores"]} cores. Repeat it when this machine does '
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
    if analysis.times.strays:
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
    yield (
        'Receptive fields in pixels; effective: the side of the area whose '
        'gradient matters'
    )
    if analysis.gradient_problem:
        yield f'    effective: {analysis.gradient_problem}'
    weights = '' if analysis.request.settled else ' (random weights)'
    for name, field in analysis.fields.items():
        if field is None:
            continue
        effective = 'not measured'
        if name in analysis.gradients:
            gradients = analysis.gradients[name]
            size = effective_size(gradients)
            # A disc that touches the image's edges fills so much of it.
            is_cut = size > 0.8 * min(gradients.shape)
            effective = f'{"over " * is_cut}{size:.0f}{weights}'
        yield (
            f'    {name:12} stride {_pair(field.stride):8} theoretical '
            f'{_theoretical(field):10} effective {effective}{_whole(field)}'
        )


def _theoretical(field: Field) -> str:
    if field.unknown:
        return f'unknown ({field.unknown})'
    return 'whole image' if field.size is None else _pair(field.size)


def _whole(field: Field) -> str:
    if field.whole_by is None or field.unknown:
        return ''
    beside = '' if field.size is None else 'beside the whole image, '
    return f'; {beside}by {field.whole_by}'


def _pair(pair: Sequence[float] | None) -> str:
    if pair is None:
        return 'unknown'
    sides = [f'{side:.4g}' for side in pair]
    return sides[0] if sides[0] == sides[1] else ' x '.join(sides)


def _layers(analysis: Analysis, most: int | None) -> Iterator[str]:
    yield (
        f'Slowest of {len(analysis.layers)} layers (of peak: its GFLOP/s of '
        'those of a matrix product; x floor: its time over the roofline)'
    )
    yield (
        f'    {"ms":>8} {"share":>5} {"of peak":>7} {"x floor":>8}  layer '
        '(type, output) and what it breaks'
    )
    rules: dict[int, list[str]] = {}
    for price in analysis.prices:
        rules.setdefault(price.breach.layer, []).append(price.breach.rule)
    order = sorted(
        range(len(analysis.layers)), key=lambda i: -analysis.layer_ms[i]
    )
    for index in order[:most]:
        layer, ms = analysis.layers[index], analysis.layer_ms[index]
        rate = layer.flops / ms / 1e6
        floor = analysis.floor_ms(layer)
        yield (
            f'    {ms:8.3g} {ms / analysis.ms:5.1%} '
            f'{rate / analysis.peaks.gflops_per_s:7.0%} '
            f'{f"{ms / floor:.1f}" if floor else "":>8}  '
            f'{layer.name} ({layer.type}, {_shape(layer.out_shape)}) '
            f'{" ".join(rules.get(index, []))}'.rstrip()
        )
    if any(
        layer.flops > 1.05e6 * ms * analysis.peaks.gflops_per_s
        for layer, ms in zip(analysis.layers, analysis.layer_ms, strict=True)
    ):
        yield (
            '    Above 100 %: fast algorithms for 3x3 kernels do fewer '
            'multiplications than are counted.'
        )


def _shape(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))


def _si(number: float) -> str:
    for scale, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= scale:
            return f'{number / scale:.4g} {letter}'
    return f'{number:.4g} '
