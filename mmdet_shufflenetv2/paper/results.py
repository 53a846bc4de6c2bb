"""``results/*.csv``, and which of their rows may stand beside each other.

Rows are compared only if they are of one machine and one setting: a choice
of rows groups them by their `Conditions` first, and then takes one group.
"""

import csv
import math
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

Row = dict[str, str]
# What the files of measurements are called, up to a ``_``, and the columns
# that say what a row is about. All other CSV files are shown as they are.
KINDS = {
    'guidelines': ('guideline', 'platform', 'scale', 'row', 'batch'),
    'backbones': ('table', 'column', 'network', 'input', 'batch'),
    'detectors': ('config', 'column', 'part', 'input', 'batch'),
    'shuffle': ('part', 'input', 'batch', 'passes'),
    'ops': ('op', 'map', 'rois', 'map_layout', 'passes'),
    'deploy': ('case', 'what', 'against', 'input', 'batch'),
}
SCHEMA = '1'
OK = 'ok'
# How the warning of a row begins that ``--quick`` measured.
TRY = '--quick'
# Columns that every measurement has besides its `Conditions`.
NEEDED = ('median_ms', 'status', 'date', 'commit', 'python', 'cores')
TIMES = ('median_ms', 'p10_ms', 'p90_ms')
RATIO_NAMES = ('time_ratio', 'speed_ratio', 'times_faster')


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


def conditions_of(row: Row) -> Conditions:
    """Machine and setting of a measured row."""
    return Conditions(*(row[name] for name in Conditions._fields))


def warning_of(row: Row) -> str:
    """What a row warns of; files written before call it ``doubt``."""
    return row.get('warning') or row.get('doubt') or ''


def is_measured(row: Row) -> bool:
    """Whether a row counts: no failure, and no try."""
    return row['status'] == OK and not warning_of(row).startswith(TRY)


def newest_complete(
    rows: Iterable[Row],
    key: Callable[[Row], Hashable],
    wanted: Collection[Hashable] = (),
    group: Callable[[Row], Hashable] = conditions_of,
    prefer: Callable[[Row], float] = lambda row: 0,
) -> dict[Hashable, Row]:
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
    groups: dict[Hashable, dict[Hashable, tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(group(row), {})[key(row)] = place, row
    wanted = set(wanted) or {k for found in groups.values() for k in found}

    def rank(found: dict[Hashable, tuple[int, Row]]) -> tuple:
        useful = [found[k] for k in found if k in wanted]
        return (
            len(useful),
            prefer(next(iter(found.values()))[1]),
            max((place for place, _ in useful), default=-1),
        )

    best = max(groups.values(), key=rank, default={})
    return {k: row for k, (_, row) in best.items()}


def by_machine(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of one machine each, in whatever setting."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(conditions_of(row).machine, []).append(row)
    return list(found.values())


@dataclass
class ResultFile:
    """A CSV file of results.

    Attributes:
        path: of the file.
        kind: one of `KINDS`; None for other tables.
        columns: its header.
        rows: what can be shown, in the order of the file.
        problems: what cannot, a line each that names the file.
    """

    path: Path
    kind: str | None
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_results(folder: Path) -> list[ResultFile]:
    """Every CSV file of a folder, by name.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f'there is no folder {folder}; name it with --results')
    return [read_file(path) for path in sorted(folder.glob('*.csv'))]


def whole_results(folder: Path) -> list[ResultFile]:
    """Every CSV file of a folder, all of which must be readable.

    Raises:
        UserError: there is no such folder, or a file has a problem.
    """
    found = read_results(folder)
    problems = [problem for file in found for problem in file.problems]
    if problems:
        raise UserError('\n'.join(problems))
    return found


def rows_of(files: Iterable[ResultFile], kind: str) -> list[Row]:
    """All rows of a kind by date; of one day, the later one further down."""
    rows = [row for file in files if file.kind == kind for row in file.rows]
    return sorted(rows, key=lambda row: row['date'])


def plain_rows(files: Iterable[ResultFile], name: str) -> list[Row]:
    """The rows of ``NAME.csv``; none if there is no such file."""
    return [
        row for file in files if file.path.stem == name for row in file.rows
    ]


def read_file(path: Path) -> ResultFile:
    """Read one CSV file, and say what is wrong with it, if anything."""
    kinds = [k for k in KINDS if f'{path.stem}_'.startswith(f'{k}_')]
    # A table of its own, not of times.
    kind = kinds[0] if kinds and path.stem != 'deploy_memory' else None
    file = ResultFile(path, kind)
    try:
        # A row is a line, so that one that was cut short spoils no other.
        lines = path.read_text('utf-8-sig').splitlines()
        header, *records = [
            tuple(*csv.reader([line])) for line in lines if line
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        file.problems.append(f'{path} cannot be read: {reason}')
        return file
    except ValueError:
        # An empty file.
        return file
    file.columns = header
    needed = (*KINDS[kind], *NEEDED, *Conditions._fields) if kind else ()
    if absent := [name for name in needed if name not in header]:
        file.problems.append(f'{path} has no column {", ".join(absent)}')
        return file
    for number, values in enumerate(records, start=1):
        if values == header:
            # Two commands that began the file at once both wrote one.
            continue
        row = dict(zip(header, values, strict=False))
        problem = _problem(row, len(values) == len(header), bool(kind))
        if problem:
            file.problems.append(
                f'{path}, record {number} is left out: {problem}'
            )
        else:
            file.rows.append(row)
    return file


def _problem(row: Row, is_whole: bool, is_measurement: bool) -> str | None:
    """What keeps a row from being shown."""
    if not is_whole:
        return 'it has more or fewer values than the header has columns'
    if not is_measurement:
        return None
    if row.get('schema', SCHEMA) != SCHEMA:
        return (
            f'a newer version wrote it (schema {row["schema"]}, this one '
            f'knows {SCHEMA})'
        )
    if row['status'] != OK:
        return None
    if not row.get('batch', '1').isdecimal():
        return f'batch: expected a whole number, got {row["batch"]!r}'
    wanted = [name for name in TIMES if name in row]
    for ratio in RATIO_NAMES:
        # All empty where there was nothing to compare with.
        names = [f'{ratio}{end}' for end in ('', '_p10', '_p90')]
        if any(row.get(name) for name in names):
            wanted += names
    for name in wanted:
        if not _is_positive(row.get(name, '')):
            got = row.get(name, '')
            return f'{name}: expected a positive number, got {got!r}'
    return None


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
