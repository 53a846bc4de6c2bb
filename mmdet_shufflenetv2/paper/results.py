"""Read ``results/*.csv`` and join measurements with published figures.

All tables and charts are made from the `Measured` rows of one `Results`. Rows
are compared only if they share machine and setting (`Conditions`).
"""

import csv
import math
from collections.abc import Callable, Collection, Hashable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..measure.published import KINDS, PAPER_KINDS, Key, Speed, beside
from ..measure.records import SCHEMA, parse

Row = dict[str, str]
OK = 'ok'
USUAL = ('fp32', 'eager', 'channels_last', 'contiguous')


class FileRow(dict[str, str]):
    """A row that names its file in the error for a missing column."""

    def __init__(self, path: Path, values: Iterable[tuple[str, str]]):
        super().__init__(values)
        self.path = path

    def __missing__(self, name: str) -> str:
        raise UserError(f'{self.path} has no column {name}')


class Conditions(NamedTuple):
    """Machine and setting of a measurement, as recorded."""

    device: str
    cpu: str
    threads: str
    precision: str
    layout: str
    mode: str
    clock: str
    torch: str

    @classmethod
    def of(cls, row: Row) -> 'Conditions':
        """Read the conditions of a measured row."""
        return cls(*(row[name] for name in cls._fields))

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU was measured."""
        return self.device != 'cpu'

    @property
    def machine(self) -> str:
        """Name of the GPU or CPU that was measured."""
        return self.device if self.on_gpu else self.cpu

    @property
    def setting(self) -> str:
        """E.g. ``'fp32, eager, contiguous, 1 thread, PyTorch 2.14'``."""
        words = [self.precision, self.mode, self.layout]
        if not self.on_gpu:
            words.append(f'{self.threads} thread{"s" * (self.threads != "1")}')
        if self.clock == 'cpu':
            words.append('CPU clock')
        return ', '.join((*words, f'PyTorch {self.torch.partition("+")[0]}'))

    @property
    def place(self) -> str:
        """Machine and setting, without the `USUAL` words."""
        words = [w for w in self.setting.split(', ') if w not in USUAL]
        return ', '.join((self.machine, *words))


# Columns that every file of measurements must have.
NEEDED = (
    *('median_ms', 'status', 'date', 'commit', 'python', 'cores'),
    *Conditions._fields,
)
# Those that are read by name besides, of a kind or of one file.
ALSO_NEEDED = {
    **dict.fromkeys(PAPER_KINDS, ('batch',)),
    'guidelines': ('batch', 'memory_access_ratio'),
    'feature_reuse': ('network', 'value', 'expected'),
    'trained': ('data', 'config', 'mAP'),
}
# Columns of numbers; an empty one was not measured.
NUMBERS = {
    'guidelines': ('memory_access_ratio',),
    'deploy': ('ps_roi_share',),
    'feature_reuse': ('value', 'expected'),
    'trained': ('mAP',),
    'bccd_backbones': ('mAP',),
    'analysis_cpu': ('share', 'unexplained_share', 'mflops', 'pass_ms'),
}


class Measured(NamedTuple):
    """A measured row and the published speed for it."""

    kind: str
    file: str
    row: Row
    conditions: Conditions
    # Ratio to the reference, its p10 and p90; all empty without a reference.
    ratio: list[str]
    # As `beside` returns them.
    key: Key | None
    published: Speed | None

    @property
    def is_sound(self) -> bool:
        """Whether the row counts: neither failed nor measured by --quick."""
        is_try = self.row.get('warning', '').startswith('--quick')
        return self.row['status'] == OK and not is_try

    @property
    def per_s(self) -> float:
        """Images per second of a detector, otherwise batches per second."""
        images = float(self.row['batch']) if self.kind == 'detectors' else 1
        return images * 1e3 / float(self.row['median_ms'])


class Results(NamedTuple):
    """A folder of results."""

    # The rows of each file, by file name without ``.csv``.
    tables: dict[str, list[Row]]
    # In chronological order.
    measured: list[Measured]
    # One line, with the file's name, for whatever cannot be shown.
    problems: list[str]

    def table(self, name: str) -> list[Row]:
        """The rows of ``NAME.csv``; empty if there is no such file."""
        return self.tables.get(name, [])

    def sound(self, kind: str) -> list[Measured]:
        """All sound measurements of a kind."""
        return [m for m in self.measured if m.kind == kind and m.is_sound]


def kind_of(name: str) -> str | None:
    """The kind of measurements in ``KIND_*.csv``; None for other tables."""
    kind = name.partition('_')[0]
    # deploy_memory.csv has memory in columns of its own, and no times.
    return kind if kind in KINDS and name != 'deploy_memory' else None


def read_results(folder: Path) -> Results:
    """Read all CSV files of a folder; `UserError` if it does not exist."""
    if not folder.is_dir():
        raise UserError(f'no folder {folder}; name another with --results')
    tables, measured, problems = {}, [], []
    for path in sorted(folder.glob('*.csv')):
        kind = kind_of(path.stem)
        rows = tables[path.stem] = _read(path, kind, problems)
        try:
            for row in rows if kind else ():
                measured.append(measured_of(kind, path.name, row))
        except UserError as error:
            problems.append(str(error))
    measured.sort(key=lambda each: each.row['date'])
    return Results(tables, measured, problems)


def measured_of(kind: str, file: str, row: Row) -> Measured:
    """Join a measured row with the published speed for it."""
    about = Conditions.of(row), _ratio(kind, row), *beside(kind, row)
    return Measured(kind, file, row, *about)


def _ratio(kind: str, row: Row) -> list[str]:
    return [row.get(f'{KINDS[kind]}{end}', '') for end in ('', '_p10', '_p90')]


def _read(path: Path, kind: str | None, problems: list[str]) -> list[Row]:
    try:
        header, *records = parse(path.read_bytes())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f'{path} cannot be read: {error}')
        return []
    what = kind or path.stem
    needed = (*(NEEDED if kind else ()), *ALSO_NEEDED.get(what, ()))
    absent = [name for name in needed if name not in header]
    if absent:
        problems.append(f'{path} has no column {", ".join(absent)}')
        return []
    rows = []
    for number, values in enumerate(records, start=1):
        row = FileRow(path, zip(header, values, strict=False))
        problem = f'expected {len(header)} values, got {len(values)}'
        if len(values) == len(header):
            problem = problem_of(what, row)
        if problem:
            problems.append(f'{path}, record {number} is left out: {problem}')
        else:
            rows.append(row)
    return rows


def problem_of(what: str, row: Row) -> str | None:
    """Why a row of a kind, or of another file, cannot be shown, or None."""
    if (schema := row.get('schema', SCHEMA)) != SCHEMA:
        return f'schema: expected {SCHEMA}, got {schema} of a newer version'
    if row.get('status', OK) != OK:
        return None
    numbers = {}
    if what in KINDS:
        numbers = {k: row.get(k, '1') for k in ('median_ms', 'batch')}
        if any(ratio := _ratio(what, row)):
            names = (f'{KINDS[what]}{end}' for end in ('', '_p10', '_p90'))
            numbers |= zip(names, ratio, strict=True)
    for name, text in numbers.items():
        if not 0 < _number(text) < math.inf:
            return f'{name}: expected a positive number, got {text!r}'
    for name in NUMBERS.get(what, ()):
        text = row.get(name)
        if text and not math.isfinite(_number(text)):
            return f'{name}: expected a number, got {text!r}'
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def newest_complete(
    rows: Iterable[Any],
    key: Callable[[Any], Hashable],
    wanted: Collection[Hashable] = (),
    group: Callable[[Any], Hashable] = lambda measured: measured.conditions,
    prefer: Callable[[Any], float] = lambda row: 0,
) -> dict[Hashable, Any]:
    """Return the rows, by key, of the newest among the most complete groups.

    Args:
        rows: in chronological order; later ones replace those with equal keys.
        key: what a row is about.
        wanted: the keys that make a group complete; if empty, all count.
        group: what the rows of a group share.
        prefer: a score that ranks equally complete groups before the date.
    """
    groups: dict[Hashable, dict[Hashable, tuple[int, Any]]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(group(row), {})[key(row)] = index, row

    def rank(found: dict[Hashable, tuple[int, Any]]) -> tuple:
        counted = [
            index for k, (index, _) in found.items() if k in (wanted or found)
        ]
        _, first = next(iter(found.values()))
        return len(counted), prefer(first), max(counted, default=-1)

    best = max(groups.values(), key=rank, default={})
    return {k: row for k, (_, row) in best.items()}


def newest_of_machines(
    rows: Iterable[Measured], key: Callable[[Measured], Hashable], **options
) -> list[dict[Hashable, Measured]]:
    """Return what `newest_complete` chooses for each machine."""
    machines: dict[str, list[Measured]] = {}
    for each in rows:
        machines.setdefault(each.conditions.machine, []).append(each)
    return [newest_complete(m, key, **options) for m in machines.values()]
