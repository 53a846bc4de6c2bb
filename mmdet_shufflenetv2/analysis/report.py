"""The analysis as text, CSV and JSON.

The text says what to do first, then where the time goes. Tables have a row
for each layer, and, to be kept in ``results/``, one for each kind of work.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap

from ..measure.timing import WIDE, significant
from .advice import advise, no_gain, warnings_of
from .findings import Findings
from .operations import BETWEEN, ELEMENTWISE
from .receptive_field import effective_size

# Raised when a key of the JSON file changes its meaning or goes.
FORMAT = 3
# Share of a pass that may be unexplained without a word.
UNEXPLAINED = 0.1


def report(found: Findings, most: int | None = None) -> str:
    """The whole report as text; ``most`` lines of advice and of layers."""
    sections = (
        _head(found),
        _advice(found, most),
        _kinds(found),
        _parts(found),
        _fields(found),
        _layers(found, most),
    )
    texts = ('\n'.join(section) for section in sections)
    return '\n\n'.join(text for text in texts if text) + '\n'


def _head(found: Findings) -> Iterator[str]:
    where, peaks, time = found.environment, found.peaks, found.times.whole_ms
    floor = sum(map(found.floor_ms, found.layers))
    shapes = ', '.join(_x(shape, ' x ') for shape in found.inputs)
    yield (
        f'{found.name}: {shapes} on {where["device"]} ({where["cpu"]}, '
        f'threads {where["threads"]}), {where["precision"]}, '
        f'{where["clock"]} clock, torch {where["torch"]}'
    )
    yield (
        f'{time.median:.4g} ms a pass ({time.p10:.4g} to {time.p90:.4g}), '
        f'{1e3 * found.batch / time.median:.3g} images/s'
    )
    if found.is_quick:
        yield (
            f'a first look (--quick): {len(found.times.whole.times_ms)} '
            'passes; take the figures below for their order of magnitude'
        )
    if warnings := warnings_of(found):
        way = ', or count processor time (--threads 1 --clock cpu)'
        yield (
            f'WARNING: {", ".join(warnings)}, at a load of {where["load"]} on '
            f'{where["cores"]} cores. Measure again when this machine does '
            f'nothing else{way * (where["clock"] == "wall")}'
        )
    yield (
        f'{_si(found.flops)}FLOPs (multiply-adds), '
        f'{_si(found.params)} parameters, {_si(found.bytes)}B moved'
    )
    yield (
        f'this machine: {peaks.gmacs_per_s:.3g} GMAC/s in a matrix product,'
        f' {peaks.memory_gb_per_s:.3g} GB/s in a copy (more in caches); its '
        f'roofline for what is counted is {floor:.3g} ms, '
        f'{floor / time.median:.0%} of the time taken'
    )
    if found.peak_mb is not None:
        yield (
            f'memory: weights {found.weights_mb:.3g} MB, maps and what '
            f'operations need {found.peak_mb:.3g} MB at most'
        )
    yield from found.notes
    if found.not_counted:
        names = ', '.join(
            f'{name.replace("::", ".")} ({count})'
            for name, count in found.not_counted.items()
        )
        yield f'not counted in FLOPs: {names}'
    for problem in found.problems:
        yield f'not found out: {problem}'


def _advice(found: Findings, most: int | None) -> Iterator[str]:
    yield 'What would help, and how much of a pass (gains overlap)'
    advice = advise(found)
    for number, each in enumerate(advice[:most], start=1):
        yield from wrap(
            f'{each.text} [{each.how}]',
            100,
            initial_indent=f'{number:2}. {each.ms:8.3g} ms '
            f'{each.ms / found.ms:5.0%}  ',
            subsequent_indent=' ' * 22,
        )
    if not advice:
        yield '    nothing that was tried or measured'
    for line in no_gain(found):
        yield f'    no gain: {line}'


def _kinds(found: Findings) -> Iterator[str]:
    yield (
        'Where the time goes (Figure 2 of the paper), and what the roofline '
        'allows'
    )
    for kind, ms in found.kinds_ms.items():
        share = ms / found.ms
        layers = [layer for layer in found.layers if layer.kind == kind]
        floor = sum(map(found.floor_ms, layers))
        bar = '#' * round(24 * max(share, 0))
        yield f'    {kind:20} {ms:9.3g} ms {share:5.0%} {floor:9.3g} ms  {bar}'
    share = found.kinds_ms[BETWEEN] / found.ms
    if abs(share) > UNEXPLAINED:
        rest = 'Python, starting operations, and on a GPU waiting for both'
        if share < 0:
            rest = 'noise: they took longer when they were timed'
        elif found.times.whole_ms.width > WIDE:
            rest += ', or other work of this machine, which is not quiet'
        yield (
            f'    The layers explain {1 - share:.0%} of a pass. '
            f'The rest is {rest}.'
        )
    if found.times.repeats and found.times.strays:
        yield (
            f'    {found.times.strays} passes executed other operations and '
            'were left out.'
        )


def _parts(found: Findings) -> Iterator[str]:
    yield 'By part: ms, and the share of element-wise work'
    for part, kinds in found.parts_ms.items():
        total = sum(kinds.values())
        share = kinds.get(ELEMENTWISE, 0) / total if total else 0
        yield (
            f'    {part:24} {total:9.3g} ms {total / found.ms:5.0%}   '
            f'element-wise {share:4.0%}   most {max(kinds, key=kinds.get)}'
        )


def _fields(found: Findings) -> Iterator[str]:
    """One line for each level whose field is known, either way."""
    names = dict.fromkeys([*found.fields, *found.gradients])
    if names:
        yield (
            'Receptive fields in pixels; effective: the side of the area '
            'whose gradient matters'
        )
    for name in names:
        stride = size = 'unknown'
        effective = 'not measured'
        if field := found.fields.get(name):
            stride = _side(field.stride)
            size = 'over ' * field.is_larger + _side(field.size)
        if name in found.gradients:
            side = effective_size(found.gradients[name])
            # A disc that touches the image's edges fills so much of it.
            is_over = side > 0.8 * min(found.gradients[name].shape)
            effective = f'{"over " * is_over}{side:.0f}'
            effective += '' if found.is_trained else ' (random weights)'
        yield (
            f'    {name:12} stride {stride:8} theoretical {size:10} '
            f'effective {effective}'
        )


def _side(pair: Sequence[float]) -> str:
    return ' x '.join(dict.fromkeys(f'{side:.4g}' for side in pair))


def _layers(found: Findings, most: int | None) -> Iterator[str]:
    yield (
        f'Slowest of {len(found.layers)} layers (of peak: its GMAC/s of '
        'those of a matrix product; x floor: its time over the roofline)'
    )
    yield (
        f'    {"ms":>8} {"share":>5} {"of peak":>7} {"x floor":>8}  layer '
        '(type, output) and what it breaks'
    )
    peak = 1e6 * found.peaks.gmacs_per_s
    order = sorted(enumerate(found.layers), key=lambda pair: -pair[1].ms)
    for index, layer in order[:most]:
        floor = found.floor_ms(layer)
        times = f'{layer.ms / floor:.1f}' if floor else ''
        rules = ' '.join(b.rule for b in found.breaches if b.layer == index)
        yield (
            f'    {layer.ms:8.3g} {layer.ms / found.ms:5.1%} '
            f'{layer.per_ms(layer.flops) / peak:7.0%} {times:>8}  '
            f'{layer.name} ({layer.type}, {_x(layer.out_shape)}) {rules}'
        ).rstrip()
    if any(each.flops > 1.05 * each.ms * peak for each in found.layers):
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


def layer_rows(found: Findings) -> list[dict[str, object]]:
    """One row for each layer, in the order they run.

    ``memory_access`` counts elements as the paper does, ``bytes`` all that
    is read and written. Shares of peaks are of the matrix product and of a
    copy of as many bytes.
    """
    rows = []
    for index, layer in enumerate(found.layers):
        conv = layer.convolution
        bound = conv and conv.memory_access_bound
        gmacs = layer.per_ms(layer.flops) / 1e6
        gb = layer.per_ms(layer.bytes) / 1e6
        broken = [b for b in found.breaches if b.layer == index]
        row = {
            'layer': layer.name,
            'part': layer.part,
            'type': layer.type,
            'kind': layer.kind,
            'called_at': layer.place,
            'input': _x(layer.in_shape),
            'output': _x(layer.out_shape),
            'flops': layer.flops,
            'params': layer.params,
            'bytes': layer.bytes,
            'kernel': conv and _x(conv.kernel_size),
            'stride': conv and _x(conv.stride),
            'dilation': conv and _x(conv.dilation),
            'groups': conv and conv.groups,
            'branches': conv and layer.branches,
            'memory_access': conv and conv.memory_access,
            'memory_access_bound': bound and round(bound),
            'access_ratio': bound and significant(conv.memory_access / bound),
            'ms': significant(layer.ms),
            'share': significant(layer.ms / found.ms),
            'floor_ms': significant(found.floor_ms(layer)),
            'limit': found.peaks.limit(layer.flops, layer.bytes),
            'gmacs_per_s': significant(gmacs),
            'of_peak': significant(gmacs / found.peaks.gmacs_per_s),
            'gb_per_s': significant(gb),
            'of_copy': significant(gb / found.peaks.gb_per_s(layer.bytes)),
            'breaks': ' '.join(each.rule for each in broken),
            'costs_ms': ' '.join(
                '?' if each.ms is None else str(significant(each.ms))
                for each in broken
            ),
            'why': '; '.join(each.reason for each in broken),
            'how_measured': '; '.join(each.how for each in broken),
        }
        rows.append({k: '' if v is None else v for k, v in row.items()})
    return rows


def write_csv(found: Findings, path: str | os.PathLike) -> None:
    """Write one row for each layer as CSV."""
    rows = layer_rows(found)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def write_json(found: Findings, path: str | os.PathLike) -> None:
    """Write everything, as plain values."""
    as_they_are = (
        *('inputs', 'batch', 'size', 'environment', 'problems', 'flops'),
        *('params', 'bytes', 'weights_mb', 'peak_mb', 'not_counted'),
        *('kinds_ms', 'parts_ms'),
    )
    fields: dict[str, dict] = {}
    for name, field in found.fields.items():
        fields[name] = field._asdict()
    for name, gradients in found.gradients.items():
        size = effective_size(gradients)
        fields.setdefault(name, {})['effective_size'] = size
    record = {
        'format': FORMAT,
        'network': found.name,
        **{name: getattr(found, name) for name in as_they_are},
        'trained_weights': found.is_trained,
        'ms': found.times.whole_ms._asdict(),
        'passes': len(found.times.whole.times_ms),
        'settled': found.times.whole.settled,
        'passes_left_out': found.times.strays,
        'warnings': warnings_of(found),
        **found.facts,
        'peaks': asdict(found.peaks),
        'advice': [advice._asdict() for advice in advise(found)],
        'no_gain': no_gain(found),
        'alternatives': [
            {
                **each._asdict(),
                'speedup': each.speedup and each.speedup._asdict(),
            }
            for each in found.alternatives
        ],
        'receptive_fields': fields,
        'layers': layer_rows(found),
    }
    Path(path).write_text(json.dumps(record, indent=1) + '\n')


# Columns of `kind_rows` before those of the environment.
RECORDED = (
    *('network', 'input', 'batch', 'kind', 'ms', 'share'),
    *('unexplained_share', 'pass_ms', 'pass_p10_ms', 'pass_p90_ms', 'passes'),
    *('warning', 'mflops', 'moved_mb', 'peak_gflops_per_s', 'copy_gb_per_s'),
    *('cache_gb_per_s', 'status'),
)


def kind_rows(found: Findings) -> list[dict[str, object]]:
    """Figure 2 as rows; what they share is repeated in each.

    ``share`` is of the whole pass; ``unexplained_share`` that of what no
    operation took; ``peak_gflops_per_s`` counts multiply-adds.
    """
    time, peaks = found.times.whole_ms, found.peaks
    height, width = found.size
    whole = {
        'unexplained_share': found.kinds_ms[BETWEEN] / found.ms,
        'pass_ms': time.median,
        'pass_p10_ms': time.p10,
        'pass_p90_ms': time.p90,
        'mflops': found.flops / 1e6,
        'moved_mb': found.bytes / 1e6,
        'peak_gflops_per_s': peaks.gmacs_per_s,
        'copy_gb_per_s': peaks.memory_gb_per_s,
        'cache_gb_per_s': max(rate for _, rate in peaks.copies),
    }
    return [
        {
            'network': found.name,
            'input': f'{width}x{height}',
            'batch': found.batch,
            'kind': kind,
            'ms': significant(ms),
            'share': significant(ms / found.ms),
            **{name: significant(value) for name, value in whole.items()},
            'passes': len(found.times.whole.times_ms),
            'warning': ', '.join(warnings_of(found)),
            'status': 'ok',
            **found.environment,
        }
        for kind, ms in found.kinds_ms.items()
    ]
