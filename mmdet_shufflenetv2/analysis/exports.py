"""The analysis for spreadsheets and programs.

A row for each layer, everything as one JSON record, and rows to be kept in
``results/``: one for each kind of work (Figure 2), beside the whole pass and
the machine's peaks.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..measure.environment import describe
from ..measure.records import Records
from ..measure.setting import Setting
from ..measure.timing import significant
from .advice import advise, distances, doubts, no_gain
from .analysis import BETWEEN, Analysis
from .broken_guidelines import Price
from .layers import Layer
from .receptive_field import Field, effective_size

# Raised when a key changes its meaning or goes.
FORMAT = 1


def _x(sides: Sequence[int]) -> str:
    return 'x'.join(map(str, sides))


def _convolution_columns(layer: Layer) -> dict[str, object]:
    """Sizes and memory access in elements, empty for other layers."""
    conv, window = layer.convolution, layer.window
    if conv is None:
        return dict.fromkeys(
            (
                *('kernel', 'stride', 'dilation', 'groups', 'branches'),
                *('memory_access', 'memory_access_bound', 'access_ratio'),
            ),
            '',
        )
    bound = conv.memory_access_bound
    return {
        'kernel': _x(conv.kernel_size),
        'stride': _x(window.stride) if window else '',
        'dilation': _x(window.dilation) if window else '',
        'groups': conv.groups,
        'branches': layer.branches,
        'memory_access': conv.memory_access,
        'memory_access_bound': '' if bound is None else round(bound),
        'access_ratio': ''
        if bound is None
        else significant(conv.memory_access / bound),
    }


def layer_rows(analysis: Analysis) -> list[dict[str, object]]:
    """One row for each layer, in the order they run.

    ``memory_access`` counts elements as the paper does, ``bytes`` all that
    is read and written. Shares of peaks are of the matrix product and of a
    copy of as many bytes.
    """
    prices: dict[int, list[Price]] = {}
    for price in analysis.prices:
        prices.setdefault(price.breach.layer, []).append(price)
    rows = []
    for index, layer in enumerate(analysis.layers):
        ms = analysis.layer_ms[index]
        gflops, gb = layer.flops / ms / 1e6, layer.bytes / ms / 1e6
        found = prices.get(index, [])
        rows.append(
            {
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
                'ms': significant(ms),
                'share': significant(ms / analysis.ms),
                'floor_ms': significant(analysis.floor_ms(layer)),
                'limit': analysis.peaks.limit(layer.flops, layer.bytes),
                'gflops_per_s': significant(gflops),
                'of_peak': significant(gflops / analysis.peaks.gflops_per_s),
                'gb_per_s': significant(gb),
                'of_copy': significant(
                    gb / analysis.peaks.gb_per_s(layer.bytes)
                ),
                'breaks': ' '.join(price.breach.rule for price in found),
                'costs_ms': ' '.join(_cost(price) for price in found),
                'why': '; '.join(price.breach.reason for price in found),
                'how_measured': '; '.join(price.how for price in found),
            }
        )
    return rows


def _cost(price: Price) -> str:
    return '?' if price.ms is None else str(significant(price.ms))


def write_csv(analysis: Analysis, path: Path) -> None:
    """Write one row for each layer."""
    rows = layer_rows(analysis)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def record_of(analysis: Analysis) -> dict[str, object]:
    """Everything, as plain values."""
    request, time = analysis.request, analysis.times.whole_ms
    return {
        'format': FORMAT,
        'network': analysis.name,
        'batch': request.batch,
        'size': list(request.size),
        'environment': analysis.environment,
        'trained_weights': request.settled,
        'ms': time._asdict(),
        'passes': len(analysis.times.whole.times_ms),
        'settled': analysis.times.whole.settled,
        'passes_left_out': analysis.times.strays,
        'flops': analysis.flops,
        'params': analysis.params,
        'bytes': analysis.bytes,
        'weights_mb': analysis.weights_mb,
        'peak_mb': analysis.peak_mb,
        'not_counted': analysis.not_counted,
        'detections': analysis.results,
        'score_threshold_set': analysis.threshold,
        'no_predictions': analysis.no_results,
        'peaks': asdict(analysis.peaks),
        'kinds_ms': analysis.kinds_ms,
        'parts_ms': analysis.parts_ms,
        'advice': [asdict(advice) for advice in advise(analysis)],
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
                **_field(field),
                'effective_size': effective_size(analysis.gradients[name])
                if name in analysis.gradients
                else None,
            }
            for name, field in analysis.fields.items()
            if field is not None
        },
        'roofline': [asdict(each) for each in distances(analysis)],
        'layers': layer_rows(analysis),
    }


def _field(field: Field) -> dict[str, object]:
    values = asdict(field)
    if field.unknown is None:
        # Only where there is a reason to give.
        del values['unknown']
    return values


def write_json(analysis: Analysis, path: Path) -> None:
    """Write everything for a program to read."""
    path.write_text(json.dumps(record_of(analysis), indent=1) + '\n')


RECORDED = (
    *('network', 'input', 'batch', 'kind', 'ms', 'share'),
    *('unexplained_share', 'pass_ms', 'pass_p10_ms', 'pass_p90_ms', 'passes'),
    *('doubt', 'mflops', 'moved_mb', 'peak_gflops_per_s', 'copy_gb_per_s'),
    *('cache_gb_per_s', 'status'),
)


def records_in(path: Path) -> Records:
    """The rows of a file that `keep` adds to.

    Raises:
        RecordsError: rows cannot be added to it.
    """
    return Records(path, (*RECORDED, *describe(Setting())))


def keep(analysis: Analysis, records: Records) -> None:
    """Add a row for each kind of work, and for what is between."""
    records.append(kind_rows(analysis))


def kind_rows(analysis: Analysis) -> list[dict[str, object]]:
    """Figure 2 as rows; what they share is repeated in each.

    ``share`` is of the whole pass; ``unexplained_share`` that of what no
    operation took.
    """
    time, peaks = analysis.times.whole_ms, analysis.peaks
    height, width = analysis.request.size
    whole = {
        'unexplained_share': analysis.kinds_ms[BETWEEN] / analysis.ms,
        'pass_ms': time.median,
        'pass_p10_ms': time.p10,
        'pass_p90_ms': time.p90,
        'mflops': analysis.flops / 1e6,
        'moved_mb': analysis.bytes / 1e6,
        'peak_gflops_per_s': peaks.gflops_per_s,
        'copy_gb_per_s': peaks.memory_gb_per_s,
        'cache_gb_per_s': max(rate for _, rate in peaks.copies),
    }
    return [
        {
            'network': analysis.name,
            'input': f'{width}x{height}',
            'batch': analysis.request.batch,
            'kind': kind,
            'ms': significant(ms),
            'share': significant(ms / analysis.ms),
            **{name: significant(value) for name, value in whole.items()},
            'passes': len(analysis.times.whole.times_ms),
            'doubt': ', '.join(doubts(analysis)),
            'status': 'ok',
            **analysis.environment,
        }
        for kind, ms in analysis.kinds_ms.items()
    ]
