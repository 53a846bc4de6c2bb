"""The analysis for spreadsheets and programs.

A row for each layer, everything as one JSON record, and rows to be kept in
``results/``: one for each kind of work (Figure 2), beside the whole pass and
the machine's peaks.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..measure.timing import significant
from .advice import distances, no_gain, warnings_of
from .layers import Layer
from .operations import BETWEEN
from .receptive_field import effective_size
from .twins import Breach

if TYPE_CHECKING:
    from .analysis import Analysis

# Raised when a key changes its meaning or goes.
FORMAT = 2


def _x(sides: Sequence[int]) -> str:
    return 'x'.join(map(str, sides))


def _convolution_columns(layer: Layer) -> dict[str, object]:
    """Sizes and memory access in elements, empty for other layers."""
    conv = layer.convolution
    bound = conv and conv.memory_access_bound
    return {
        'kernel': conv and _x(conv.kernel_size),
        'stride': conv and _x(conv.stride),
        'dilation': conv and _x(conv.dilation),
        'groups': conv and conv.groups,
        'branches': conv and layer.branches,
        'memory_access': conv and conv.memory_access,
        'memory_access_bound': bound and round(bound),
        'access_ratio': bound and significant(conv.memory_access / bound),
    }


def layer_rows(analysis: Analysis) -> list[dict[str, object]]:
    """One row for each layer, in the order they run.

    ``memory_access`` counts elements as the paper does, ``bytes`` all that
    is read and written. Shares of peaks are of the matrix product and of a
    copy of as many bytes.
    """
    breaches: dict[int, list[Breach]] = {}
    for breach in analysis.breaches:
        breaches.setdefault(breach.layer, []).append(breach)
    peaks = analysis.peaks
    rows = []
    for index, layer in enumerate(analysis.layers):
        gmacs = layer.per_ms(layer.flops) / 1e6
        gb = layer.per_ms(layer.bytes) / 1e6
        found = breaches.get(index, [])
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
            **_convolution_columns(layer),
            'ms': significant(layer.ms),
            'share': significant(layer.ms / analysis.ms),
            'floor_ms': significant(analysis.floor_ms(layer)),
            'limit': peaks.limit(layer.flops, layer.bytes),
            'gmacs_per_s': significant(gmacs),
            'of_peak': significant(gmacs / peaks.gmacs_per_s),
            'gb_per_s': significant(gb),
            'of_copy': significant(gb / peaks.gb_per_s(layer.bytes)),
            'breaks': ' '.join(each.rule for each in found),
            'costs_ms': ' '.join(
                '?' if each.ms is None else str(significant(each.ms))
                for each in found
            ),
            'why': '; '.join(each.reason for each in found),
            'how_measured': '; '.join(each.how for each in found),
        }
        rows.append({k: '' if v is None else v for k, v in row.items()})
    return rows


def write_csv(analysis: Analysis, path: Path) -> None:
    """Write one row for each layer."""
    rows = layer_rows(analysis)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def record_of(analysis: Analysis) -> dict[str, object]:
    """Everything, as plain values."""
    levels = dict.fromkeys([*analysis.fields, *analysis.gradients])
    return {
        'format': FORMAT,
        'network': analysis.name,
        'inputs': analysis.inputs,
        'batch': analysis.batch,
        'size': analysis.size,
        'environment': analysis.environment,
        'trained_weights': analysis.is_trained,
        'ms': analysis.times.whole_ms._asdict(),
        'passes': len(analysis.times.whole.times_ms),
        'settled': analysis.times.whole.settled,
        'passes_left_out': analysis.times.strays,
        'warnings': warnings_of(analysis),
        'problems': analysis.problems,
        'flops': analysis.flops,
        'params': analysis.params,
        'bytes': analysis.bytes,
        'weights_mb': analysis.weights_mb,
        'peak_mb': analysis.peak_mb,
        'not_counted': analysis.not_counted,
        **analysis.facts,
        'peaks': asdict(analysis.peaks),
        'kinds_ms': analysis.kinds_ms,
        'parts_ms': analysis.parts_ms,
        'advice': [advice._asdict() for advice in analysis.advice],
        'no_gain': no_gain(analysis),
        'alternatives': [
            {
                'name': each.name,
                'ms': each.ms,
                'speedup': each.speedup and each.speedup._asdict(),
                'problem': each.problem,
            }
            for each in analysis.alternatives
        ],
        'receptive_fields': {
            name: {
                **(
                    asdict(analysis.fields[name])
                    if name in analysis.fields
                    else {}
                ),
                'effective_size': effective_size(analysis.gradients[name])
                if name in analysis.gradients
                else None,
            }
            for name in levels
        },
        'roofline': [asdict(each) for each in distances(analysis)],
        'layers': layer_rows(analysis),
    }


def write_json(analysis: Analysis, path: Path) -> None:
    """Write everything for a program to read."""
    path.write_text(json.dumps(record_of(analysis), indent=1) + '\n')


# Columns of `kind_rows` before those of the environment.
RECORDED = (
    *('network', 'input', 'batch', 'kind', 'ms', 'share'),
    *('unexplained_share', 'pass_ms', 'pass_p10_ms', 'pass_p90_ms', 'passes'),
    *('warning', 'mflops', 'moved_mb', 'peak_gflops_per_s', 'copy_gb_per_s'),
    *('cache_gb_per_s', 'status'),
)


def kind_rows(analysis: Analysis) -> list[dict[str, object]]:
    """Figure 2 as rows; what they share is repeated in each.

    ``share`` is of the whole pass; ``unexplained_share`` that of what no
    operation took.
    """
    time, peaks = analysis.times.whole_ms, analysis.peaks
    height, width = analysis.size
    whole = {
        'unexplained_share': analysis.kinds_ms[BETWEEN] / analysis.ms,
        'pass_ms': time.median,
        'pass_p10_ms': time.p10,
        'pass_p90_ms': time.p90,
        'mflops': analysis.flops / 1e6,
        'moved_mb': analysis.bytes / 1e6,
        'peak_gflops_per_s': peaks.gmacs_per_s,
        'copy_gb_per_s': peaks.memory_gb_per_s,
        'cache_gb_per_s': max(rate for _, rate in peaks.copies),
    }
    return [
        {
            'network': analysis.name,
            'input': f'{width}x{height}',
            'batch': analysis.batch,
            'kind': kind,
            'ms': significant(ms),
            'share': significant(ms / analysis.ms),
            **{name: significant(value) for name, value in whole.items()},
            'passes': len(analysis.times.whole.times_ms),
            'warning': ', '.join(warnings_of(analysis)),
            'status': 'ok',
            **analysis.environment,
        }
        for kind, ms in analysis.kinds_ms.items()
    ]
