"""The pass as a time line for ui.perfetto.dev or chrome://tracing.

One track has the modules, each around those inside of it, one the layers by
their kind of work, one the operations. Operations lie end to end with their
median times, so that what recording them took is not to be seen; what
happens between them is one slice at the end.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from .analysis import BETWEEN, Analysis

# Whole nanoseconds, so that a slice ends exactly where the next begins; the
# format's unit is the microsecond.
_NS = 1e6
_TRACKS = ('modules', 'layers', 'operations')


def _slice(
    track: str, name: str, start: float, end: float, category: str = '', **args
) -> dict[str, object]:
    begun, over = round(start * _NS), round(end * _NS)
    return {
        'ph': 'X',
        'pid': 1,
        'tid': 1 + _TRACKS.index(track),
        'name': name,
        'cat': category,
        'ts': begun / 1e3,
        'dur': (over - begun) / 1e3,
        'args': args,
    }


def _names(analysis: Analysis) -> Iterator[dict[str, object]]:
    yield {
        'ph': 'M',
        'pid': 1,
        'name': 'process_name',
        'args': {'name': analysis.name},
    }
    for tid, track in enumerate(_TRACKS, start=1):
        yield {
            'ph': 'M',
            'pid': 1,
            'tid': tid,
            'name': 'thread_name',
            'args': {'name': track},
        }


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ', '.join('x'.join(map(str, shape)) or '-' for shape in shapes)


def _modules(
    owners: Sequence[str], starts: Sequence[float]
) -> Iterator[dict[str, object]]:
    """Nested slices: a module lasts while operations below it follow.

    Args:
        owners: path of the module of each operation.
        starts: of each operation, and the end of the last.
    """
    opened: list[tuple[str, float]] = []
    for index, owner in enumerate([*owners, None]):
        path = owner.split('.') if owner else []
        depth = 0
        while (
            depth < min(len(path), len(opened))
            and path[depth] == opened[depth][0]
        ):
            depth += 1
        now = starts[index]
        for name, begun in reversed(opened[depth:]):
            yield _slice('modules', name, begun, now)
        opened[depth:] = [(name, now) for name in path[depth:]]


def trace_of(analysis: Analysis) -> dict[str, object]:
    """The time line in Chrome's trace event format."""
    times = analysis.times
    starts = [0.0]
    for index in range(len(analysis.recorded)):
        starts.append(starts[-1] + times.sum_ms([index]))
    events = list(_names(analysis))
    events += _modules([op.owner for op in analysis.recorded], starts)
    for layer in analysis.layers:
        # The parts of post-processing return; each stay is a slice.
        for first, last in _stays(layer.operations):
            start, end = starts[first], starts[last + 1]
            events.append(
                _slice(
                    'layers',
                    f'{layer.kind}: {layer.name}',
                    start,
                    end,
                    layer.kind,
                    type=layer.type,
                    input=_shapes([layer.in_shape]),
                    output=_shapes([layer.out_shape]),
                    mflops=layer.flops / 1e6,
                    megabytes=layer.bytes / 1e6,
                    floor_ms=analysis.floor_ms(layer),
                    called_at=layer.place,
                )
            )
    for index, op in enumerate(analysis.recorded):
        events.append(
            _slice(
                'operations',
                op.name,
                starts[index],
                starts[index + 1],
                op.kind,
                inputs=_shapes(op.inputs),
                outputs=_shapes(op.outputs),
                called_at=op.place,
            )
        )
    between = analysis.kinds_ms[BETWEEN]
    if between > 0:
        end = starts[-1] + between
        events.append(_slice('layers', BETWEEN, starts[-1], end, BETWEEN))
    return {'traceEvents': events, 'displayTimeUnit': 'ms'}


def _stays(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive indices."""
    first = previous = indices[0]
    for index in [*indices[1:], None]:
        if index is None or index != previous + 1:
            yield first, previous
            first = index
        previous = index


def write_trace(analysis: Analysis, path: Path) -> None:
    """Write the time line."""
    path.write_text(json.dumps(trace_of(analysis)) + '\n')
