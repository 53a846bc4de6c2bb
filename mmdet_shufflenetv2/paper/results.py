"""``results/*.csv``, each measurement beside what was published of the same.

A folder is read once, and all tables and charts choose from its `Measured`
rows. Rows stand beside each other only if they are of one machine and one
setting, the `Conditions`.
"""

import csv
import math
from collections.abc import Callable, Collection, Hashable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..errors import UserError
from .published import Key, Speed, beside

Row = dict[str, str]
Item = TypeVar('Item')
# What the files of measurements are called, up to a ``_``: the columns that
# say what a row is about, and the ratio to its reference. All other CSV files
# are shown as they are.
KINDS = {
    'guidelines': (
        ('guideline', 'platform', 'scale', 'row', 'batch'),
        'time_ratio',
    ),
    'backbones': (
        ('table', 'column', 'network', 'input', 'batch'),
        'speed_ratio',
    ),
    'detectors': (
        ('config', 'column', 'part', 'input', 'batch'),
        'speed_ratio',
    ),
    'shuffle': (('part', 'input', 'batch', 'passes'), 'times_faster'),
    'ops': (('op', 'map', 'rois', 'map_layout', 'passes'), 'times_faster'),
    'deploy': (('case', 'what', 'against', 'input', 'batch'), 'times_faster'),
}
SCHEMA = '1'
OK = 'ok'
# Columns that every measurement has besides its `Conditions`.
NEEDED = ('median_ms', 'status', 'date', 'commit', 'python', 'cores')
USUAL = ('fp32', 'eager', 'channels_last', 'contiguous')


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

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU was measured."""
        return self.device != 'cpu'

    @property
    def machine(self) -> str:
        """The GPU's name, or the processor's if that was measured."""
        return self.device if self.on_gpu else self.cpu

    @property
    def setting(self) -> str:
        """Such as ``'fp32, eager, contiguous, 1 thread, PyTorch 2.14'``."""
        words = [self.precision, self.mode, self.layout]
        if not self.on_gpu:
            words.append(f'{self.threads} thread{"s" * (self.threads != "1")}')
        if self.clock == 'cpu':
            words.append('CPU clock')
        return ', '.join((*words, f'PyTorch {self.torch.partition("+")[0]}'))

    @property
    def place(self) -> str:
        """Machine and setting, without what is usual."""
        words = [w for w in self.setting.split(', ') if w not in USUAL]
        return ', '.join((self.machine, *words))


class Measured(NamedTuple):
    """A measured row beside what was published of the same.

    Attributes:
        kind: one of `KINDS`.
        file: name of its file.
        row: its cells by column.
        conditions: machine and setting.
        key, published: as `beside` has them.
        ratio: to the reference, its p10 and p90, in the file's digits; all
            empty where there was none.
    """

    kind: str
    file: str
    row: Row
    conditions: Conditions
    key: Key | None
    published: Speed | None
    ratio: tuple[str, str, str]

    @property
    def is_sound(self) -> bool:
        """Whether it counts: neither a failure nor measured by --quick."""
        row = self.row
        return row['status'] == OK and not warning_of(row).startswith(
            '--quick'
        )


class Results(NamedTuple):
    """A folder of results.

    Attributes:
        tables: the rows of each file by its name without ``.csv``.
        measured: all measurements by date; of one day, the later ones
            further down.
        problems: what cannot be shown, a line each that names the file.
    """

    tables: dict[str, list[Row]]
    measured: list[Measured]
    problems: list[str]

    def table(self, name: str) -> list[Row]:
        """The rows of ``NAME.csv``; none if there is no such file."""
        return self.tables.get(name, [])

    def sound(self, kind: str) -> list[Measured]:
        """All measurements of a kind that count."""
        return [m for m in self.measured if m.kind == kind and m.is_sound]


def conditions_of(row: Row) -> Conditions:
    """Machine and setting of a measured row."""
    return Conditions(*(row[name] for name in Conditions._fields))


def warning_of(row: Row) -> str:
    """What a row warns of; older files call the column ``doubt``."""
    return row.get('warning') or row.get('doubt') or ''


def kind_of(name: str) -> str | None:
    """The kind of measurements in ``NAME.csv``; None for other tables."""
    # A table of its own, not of times.
    if name == 'deploy_memory':
        return None
    return next((k for k in KINDS if f'{name}_'.startswith(f'{k}_')), None)


def read_results(folder: Path) -> Results:
    """Every CSV file of a folder, by name.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f'there is no folder {folder}; name it with --results')
    tables, measured, problems = {}, [], []
    for path in sorted(folder.glob('*.csv')):
        kind = kind_of(path.stem)
        rows = tables[path.stem] = _read(path, kind, problems)
        for row in rows if kind else ():
            ratio = tuple(row.get(name, '') for name in _ratio_columns(kind))
            where = conditions_of(row), *beside(kind, row), ratio
            measured.append(Measured(kind, path.name, row, *where))
    measured.sort(key=lambda each: each.row['date'])
    return Results(tables, measured, problems)


def _ratio_columns(kind: str) -> list[str]:
    return [f'{KINDS[kind][1]}{end}' for end in ('', '_p10', '_p90')]


def _read(path: Path, kind: str | None, problems: list[str]) -> list[Row]:
    try:
        # A row is a line, so that one that was cut short spoils no other.
        lines = path.read_text('utf-8-sig').splitlines()
        records = [next(csv.reader([line])) for line in lines if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        problems.append(f'{path} cannot be read: {reason}')
        return []
    if not records:
        return []
    header, *records = records
    needed = (*KINDS[kind][0], *NEEDED, *Conditions._fields) if kind else ()
    if absent := [name for name in needed if name not in header]:
        problems.append(f'{path} has no column {", ".join(absent)}')
        return []
    rows = []
    for number, values in enumerate(records, start=1):
        if values == header:
            # Two commands that began the file at once both wrote one.
            continue
        row = dict(zip(header, values, strict=False))
        if len(values) != len(header):
            problem = f'expected {len(header)} values, got {len(values)}'
        else:
            problem = _problem(kind, row) if kind else None
        if problem:
            problems.append(f'{path}, record {number} is left out: {problem}')
        else:
            rows.append(row)
    return rows


def _problem(kind: str, row: Row) -> str | None:
    """What keeps a measurement from being shown."""
    if row.get('schema', SCHEMA) != SCHEMA:
        return (
            f'a newer version wrote it (schema {row["schema"]}, this one '
            f'knows {SCHEMA})'
        )
    if row['status'] != OK:
        return None
    if not row.get('batch', '1').isdecimal():
        return f'batch: expected a whole number, got {row["batch"]!r}'
    ratios = [row.get(name, '') for name in _ratio_columns(kind)]
    numbers = {'median_ms': row['median_ms']}
    if any(ratios):
        numbers |= dict(zip(_ratio_columns(kind), ratios, strict=True))
    for name, text in numbers.items():
        if not _is_positive(text):
            return f'{name}: expected a positive number, got {text!r}'
    return None


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def by_machine(rows: Iterable[Measured]) -> list[list[Measured]]:
    """Rows of one machine each, in whatever setting."""
    found: dict[str, list[Measured]] = {}
    for each in rows:
        found.setdefault(each.conditions.machine, []).append(each)
    return list(found.values())


def newest_complete(
    rows: Iterable[Item],
    key: Callable[[Item], Hashable],
    wanted: Collection[Hashable] = (),
    group: Callable[[Item], Hashable] = lambda measured: measured.conditions,
    prefer: Callable[[Item], float] = lambda row: 0,
) -> dict[Hashable, Item]:
    """The rows of one group: the newest that has everything wanted.

    If none has everything, the one that has most.

    Args:
        rows: by date.
        key: what a row is about; of two in a group the later one counts.
        wanted: keys that make a group complete; all that there are, if empty.
        group: what rows have to share.
        prefer: of groups that have as much, those with the highest value go
            before newer ones.

    Returns:
        rows by key, all of one group; empty if there are none.
    """
    groups: dict[Hashable, dict[Hashable, tuple[int, Item]]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(group(row), {})[key(row)] = place, row

    def rank(found: dict[Hashable, tuple[int, Item]]) -> tuple:
        useful = [found[k] for k in found if not wanted or k in wanted]
        return (
            len(useful),
            prefer(next(iter(found.values()))[1]),
            max((place for place, _ in useful), default=-1),
        )

    best = max(groups.values(), key=rank, default={})
    return {k: row for k, (_, row) in best.items()}
