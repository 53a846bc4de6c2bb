"""Reading ``results/*.csv``, of which a bad one must not spoil the rest."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.run_config import UsageError
from ..measure.command import records_of
from ..measure.command_line import COMMANDS
from ..measure.records import RecordsError
from ..measure.session import OK, is_of_try

Row = dict[str, str]
# Of a measurement that went well these are positive numbers, in whatever
# file they are.
NUMBERS = (
    'median_ms',
    'p10_ms',
    'p90_ms',
    *(
        f'{ratio}{spread}'
        for ratio in ('time_ratio', 'speed_ratio', 'times_faster')
        for spread in ('', '_p10', '_p90')
    ),
    'per_s',
    'images_per_s',
    'memory_access_ratio',
    'torchvision_ms',
    'plain_ms',
)


@dataclass
class ResultFile:
    """A CSV file of results.

    Attributes:
        path: of the file.
        kind: the command whose measurements it has; None for other tables.
        columns: its header.
        rows: what can be shown, in the order of the file.
        problems: what cannot, a line each that names the file.
    """

    path: Path
    kind: str | None
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def kind_of(path: Path) -> str | None:
    """The benchmark command that names its files so, if there is one."""
    for name in COMMANDS:
        if path.stem == name or path.stem.startswith(f'{name}_'):
            return name
    return None


def read_results(folder: Path) -> list[ResultFile]:
    """Every CSV file of a folder, by name.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f'there is no folder {folder}; name it with --results'
        )
    return [read_file(path) for path in sorted(folder.glob('*.csv'))]


def whole_results(folder: Path) -> dict[str, list[Row]]:
    """`rows_by_kind` of a folder, all of which must be readable.

    Raises:
        UsageError: there is no such folder, or a file has a problem.
    """
    files = read_results(folder)
    problems = [problem for file in files for problem in file.problems]
    if problems:
        raise UsageError('\n'.join(problems))
    return rows_by_kind(files)


def rows_by_kind(files: Sequence[ResultFile]) -> dict[str, list[Row]]:
    """The measurements that went well, by command, in order of the date.

    Those of tries come before all others, because the last one counts.
    """
    found = {name: [] for name in COMMANDS}
    for file in files:
        if file.kind:
            found[file.kind] += [r for r in file.rows if r['status'] == OK]
    # The sort is stable: of one day, the row further down is the later one.
    return {
        k: sorted(v, key=lambda row: (not is_of_try(row), row['date']))
        for k, v in found.items()
    }


def read_file(path: Path) -> ResultFile:
    """Read one CSV file, and say what is wrong with it, if anything."""
    file = ResultFile(path, kind_of(path))
    try:
        if file.kind:
            records = records_of(COMMANDS[file.kind], path)
            file.columns, rows = records.columns, records.rows
            if records.cut:
                file.problems.append(
                    f'{path}: lines cut short, left out: {records.cut}'
                )
        else:
            file.columns, rows = _read_plain(path)
    except RecordsError as error:
        file.problems.append(error.what)
        return file
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        file.problems.append(f'{path} cannot be read: {reason}')
        return file
    for number, row in enumerate(rows, start=1):
        if problem := _problem(row):
            file.problems.append(
                f'{path}, record {number} is left out: {problem}'
            )
        else:
            file.rows.append(row)
    return file


def _read_plain(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return tuple(reader.fieldnames or ()), rows


def _problem(row: Row) -> str | None:
    """What keeps a row from being shown."""
    if None in row or None in row.values():
        return 'it has more or fewer values than the header has columns'
    if row.get('status') != OK:
        return None
    if not row.get('batch', '1').isdecimal():
        return f'batch must be a whole number, got {row["batch"]!r}'
    for name in NUMBERS:
        if name in row and not _is_positive(row[name]):
            return f'{name} must be a positive number, got {row[name]!r}'
    return None


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
