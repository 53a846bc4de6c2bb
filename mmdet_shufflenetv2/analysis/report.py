"""Present an analysis as text, CSV and JSON.

The text starts with advice, followed by where the time goes. Tables have one
row per layer or, for ``results/``, one row per kind of work.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from ..measure.timing import WIDE, significant
from .advice import no_gain
from .operations import BETWEEN, ELEMENTWISE
from .receptive_field import effective_size

if TYPE_CHECKING:
    from .analysis import Analysis

# Increment when a key of the JSON file changes its meaning or is removed.
FORMAT = 5
# A larger unexplained share of a pass is commented on.
UNEXPLAINED = 0.1


def report(found: Analysis, most: int | None = None) -> str:
    """The report as text, with at most ``most`` lines of advice and layers."""
    sections = (
        *(_head(found), _advice(found, most), _kinds(found), _parts(found)),
        *(_fields(found), _layers(found, most)),
    )
    return '\n\n'.join('\n'.join(each) for each in sections if each) + '\n'


def _head(found: Analysis) -> list[str]:
    where, peaks, time = found.environment, found.peaks, found.times.whole_ms
    shapes = ', '.join(_x(shape, ' x ') for shape in found.inputs)
    floor = found.floor_ms(*found.layers)
    lines = [
        f'{found.name}: {shapes} on {where["device"]} ({where["cpu"]}, '
        f'threads {where["threads"]}), {where["precision"]}, '
        f'{where["clock"]} clock, torch {where["torch"]}',
        f'{time.median:.4g} ms per pass ({time.p10:.4g} to {time.p90:.4g}), '
        f'{1e3 * found.batch / time.median:.3g} images/s',
    ]
    if found.is_quick:
        passes = len(found.times.whole.times_ms)
        lines.append(
            f'quick analysis (--quick): only {passes} passes, so the figures '
            'below show orders of magnitude'
        )
    if found.warnings:
        way = ', or measure processor time (--threads 1 --clock cpu)'
        lines.append(
            f'WARNING: {", ".join(found.warnings)}; load {where["load"]} on '
            f'{where["cores"]} cores. Remeasure when the machine is idle'
            f'{way if where["clock"] == "wall" else ""}'
        )
    lines += [
        f'{_si(found.flops)}FLOPs (multiply-adds), '
        f'{_si(found.params)} parameters, {_si(found.bytes)}B moved',
        f'this machine: {peaks.gmacs_per_s:.3g} GMAC/s in a matrix product,'
        f' {peaks.memory_gb_per_s:.3g} GB/s in a copy (more in caches); its '
        f'roofline allows {floor:.3g} ms for the counted work, '
        f'{floor / time.median:.0%} of the measured time',
    ]
    if found.peak_mb is not None:
        lines.append(
            f'memory: weights {found.weights_mb:.3g} MB, maps and workspace '
            f'at most {found.peak_mb:.3g} MB'
        )
    lines += found.notes
    if found.not_counted:
        counts = found.not_counted.items()
        names = [f'{n.replace("::", ".")} ({count})' for n, count in counts]
        lines.append(f'not counted in FLOPs: {", ".join(names)}')
    return lines + [f'failed: {each}' for each in found.problems]


def _advice(found: Analysis, most: int | None) -> list[str]:
    lines = ['What would help most on this machine; gains overlap']
    for each in found.advice[:most]:
        start = f'    {each.ms:8.3g} ms {each.ms / found.ms:5.0%}  '
        text = f'{each.text} [{each.how}]'
        lines += wrap(
            text, 100, initial_indent=start, subsequent_indent=' ' * len(start)
        )
    if not found.advice:
        lines.append('    nothing found')
    return lines + [f'    no gain: {line}' for line in no_gain(found)]


def _kinds(found: Analysis) -> list[str]:
    lines = [
        'Where the time goes (Figure 2 of the paper), and the time that the '
        'roofline allows'
    ]
    for kind, ms in found.kinds_ms.items():
        share = ms / found.ms
        floor = found.floor_ms(*(e for e in found.layers if e.kind == kind))
        bar = '#' * round(24 * max(share, 0))
        lines.append(
            f'    {kind:20} {ms:9.3g} ms {share:5.0%} {floor:9.3g} ms  {bar}'
        )
    # The last share is that of the time between operations.
    if abs(share) > UNEXPLAINED:
        rest = 'Python, launching operations, and on a GPU waiting for both'
        if share < 0:
            rest = 'noise: layers took longer in timed passes'
        elif found.times.whole_ms.width > WIDE:
            rest += ', or other work on this machine'
        lines.append(
            f'    The layers explain {1 - share:.0%} of a pass. '
            f'The rest is {rest}.'
        )
    return lines


def _parts(found: Analysis) -> list[str]:
    lines = ['By part: ms, share of element-wise work, and main kind of work']
    for part, kinds in found.parts_ms.items():
        total = sum(kinds.values())
        share = kinds[ELEMENTWISE] / total if total else 0
        lines.append(
            f'    {part:24} {total:9.3g} ms {total / found.ms:5.0%}   '
            f'element-wise {share:4.0%}   mainly {max(kinds, key=kinds.get)}'
        )
    return lines


def _fields(found: Analysis) -> list[str]:
    """One line for each level with a known receptive field of either kind."""
    lines = []
    for name in dict.fromkeys([*found.fields, *found.gradients]):
        stride = size = 'unknown'
        if field := found.fields.get(name):
            stride = _side(field.stride)
            size = 'over ' * field.is_larger + _side(field.size)
        effective = 'not measured'
        if name in found.gradients:
            side = effective_size(found.gradients[name])
            # A disc that touches the image's edges has about this side.
            is_over = side > 0.8 * min(found.gradients[name].shape)
            effective = f'{"over " * is_over}{side:.0f}'
            effective += '' if found.is_trained else ' (random weights)'
        lines.append(
            f'    {name:12} stride {stride:8} theoretical {size:10} '
            f'effective {effective}'
        )
    title = 'Receptive fields in pixels; effective: side of the area with a '
    return lines and [f'{title}relevant gradient', *lines]


def _side(pair: Sequence[float]) -> str:
    return ' x '.join(dict.fromkeys(f'{side:.4g}' for side in pair))


def _layers(found: Analysis, most: int | None) -> list[str]:
    lines = [
        f'Slowest of {len(found.layers)} layers (of peak: GMAC/s relative to '
        "a matrix product; x floor: time relative to the roofline's)",
        f'    {"ms":>8} {"share":>5} {"of peak":>7} {"x floor":>8}  layer '
        '(type, output) and broken guidelines',
    ]
    rows = sorted(layer_rows(found), key=lambda row: -row['ms'])
    for row in rows[:most]:
        floor = row['floor_ms']
        times = f'{row["ms"] / floor:.1f}' if floor else ''
        line = (
            f'    {row["ms"]:8.3g} {row["share"]:5.1%} {row["of_peak"]:7.0%} '
            f'{times:>8}  {row["layer"]} ({row["type"]}, {row["output"]}) '
        )
        lines.append((line + row['breaks']).rstrip())
    if any(row['of_peak'] > 1.05 for row in rows):
        lines.append(
            '    Above 100 %: fast algorithms for 3x3 kernels need fewer '
            'multiplications than are counted.'
        )
    return lines


def _x(shape: Sequence[int], sign: str = 'x') -> str:
    return sign.join(map(str, shape))


def _si(number: float) -> str:
    for scale, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= scale:
            return f'{number / scale:.4g} {letter}'
    return f'{number:.4g} '


def _cell(value: object) -> object:
    """Format a table cell: None as '', floats with four digits."""
    if isinstance(value, float):
        return significant(value)
    return '' if value is None else value


# Columns of `layer_rows`.
LAYER_COLUMNS = (
    *('layer', 'part', 'type', 'kind', 'input', 'output', 'flops', 'params'),
    *('bytes', 'kernel', 'stride', 'dilation', 'groups', 'branches'),
    *('memory_access', 'memory_access_bound', 'access_ratio', 'ms', 'share'),
    *('floor_ms', 'limit', 'gmacs_per_s', 'of_peak', 'gb_per_s', 'of_copy'),
    *('breaks', 'costs_ms', 'why', 'how_measured'),
)


def layer_rows(found: Analysis) -> list[dict[str, object]]:
    """One row per layer, in execution order.

    ``memory_access`` counts elements as the paper does, ``bytes`` everything
    read and written. ``of_peak`` is relative to a matrix product, ``of_copy``
    to a copy of as many bytes.
    """
    rows = []
    for index, layer in enumerate(found.layers):
        conv, peaks = layer.convolution, found.peaks
        bound = conv and conv.memory_access_bound
        gmacs = layer.per_ms(layer.flops) / 1e6
        gb = layer.per_ms(layer.bytes) / 1e6
        broken = [b for b in found.breaches if b.layer == index]
        costs = ['?' if b.ms is None else significant(b.ms) for b in broken]
        row = {
            'layer': layer.name,
            'part': layer.part,
            'type': layer.type,
            'kind': layer.kind,
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
            'access_ratio': bound and conv.memory_access / bound,
            'ms': layer.ms,
            'share': layer.ms / found.ms,
            'floor_ms': found.floor_ms(layer),
            'limit': peaks.limit(layer.flops, layer.bytes),
            'gmacs_per_s': gmacs,
            'of_peak': gmacs / peaks.gmacs_per_s,
            'gb_per_s': gb,
            'of_copy': gb / peaks.gb_per_s(layer.bytes),
            'breaks': ' '.join(each.rule for each in broken),
            'costs_ms': ' '.join(map(str, costs)),
            'why': '; '.join(each.reason for each in broken),
            'how_measured': '; '.join(each.how for each in broken),
        }
        rows.append({name: _cell(value) for name, value in row.items()})
    return rows


def write_csv(found: Analysis, path: str | os.PathLike) -> None:
    """Write one CSV row per layer."""
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, LAYER_COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(layer_rows(found))


def write_json(found: Analysis, path: str | os.PathLike) -> None:
    """Write the complete analysis as JSON."""
    names = (
        'inputs batch size environment notes problems warnings flops params '
        'bytes weights_mb peak_mb not_counted kinds_ms parts_ms peaks advice'
    )
    fields = {name: vars(field) for name, field in found.fields.items()}
    for name, gradients in found.gradients.items():
        size = effective_size(gradients)
        fields[name] = fields.get(name, {}) | {'effective_size': size}
    record = {
        'format': FORMAT,
        'network': found.name,
        'trained_weights': found.is_trained,
        'ms': found.times.whole_ms._asdict(),
        'passes': len(found.times.whole.times_ms),
        'settled': found.times.whole.settled,
        **{name: getattr(found, name) for name in names.split()},
        'no_gain': no_gain(found),
        'receptive_fields': fields,
        'layers': layer_rows(found),
    }
    text = json.dumps(record, indent=1, default=vars)
    Path(path).write_text(f'{text}\n')


# Columns of `kind_rows`, followed by those of the environment.
RECORDED = (
    *('network', 'input', 'batch', 'kind', 'ms', 'share'),
    *('unexplained_share', 'pass_ms', 'pass_p10_ms', 'pass_p90_ms', 'passes'),
    *('warning', 'mflops', 'moved_mb', 'peak_gflops_per_s', 'copy_gb_per_s'),
    *('cache_gb_per_s', 'status'),
)


def kind_rows(found: Analysis) -> list[dict[str, object]]:
    """Rows of Figure 2, one per kind of work; common values are repeated.

    ``share`` is relative to the whole pass, ``unexplained_share`` is that of
    the time between operations, ``peak_gflops_per_s`` counts multiply-adds.
    """
    height, width = found.size
    whole, peaks = found.times.whole_ms, found.peaks
    shared = (
        *(found.kinds_ms[BETWEEN] / found.ms, *whole),
        *(len(found.times.whole.times_ms), ', '.join(found.warnings)),
        *(found.flops / 1e6, found.bytes / 1e6, peaks.gmacs_per_s),
        *(peaks.memory_gb_per_s, peaks.cache_gb_per_s, 'ok'),
    )
    network = found.name, f'{width}x{height}', found.batch
    rows = []
    for kind, ms in found.kinds_ms.items():
        values = map(_cell, (*network, kind, ms, ms / found.ms, *shared))
        row = dict(zip(RECORDED, values, strict=True))
        rows.append(row | found.environment)
    return rows
