"""A table of the paper, row by row beside what was measured of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from ..measure.session import OK
from .claims import NOT_MEASURED
from .evidence import PLATFORMS, device_name
from .results import Row

NONE = '-'
TITLES = {'gpu': 'GPU', 'arm': 'CPU'}


class Column(NamedTuple):
    """A column's title, whether it has numbers, and what is above it."""

    title: str
    numeric: bool = False
    group: str = ''


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        cells: texts, one for each column.
        device: its name; empty for what only the paper has.
        setting: threads, precision and so on.
    """

    cells: tuple[str, ...]
    device: str = ''
    setting: str = ''


@dataclass(frozen=True)
class Table:
    """What a page shows as one table."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    lines: Sequence[Line]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """What is above the columns, and above how many of them."""
        return [
            (group, len(list(columns)))
            for group, columns in groupby(c.group for c in self.columns)
        ]


class Paper(NamedTuple):
    """Published speed, and its ratio to that of the table's reference."""

    per_s: float | None
    ratio: float | None


class Here(NamedTuple):
    """What a row tells of this machine: texts, or why there are none."""

    per_s: str
    ratio: str = NONE
    spread: str = NONE
    ms: str = NONE
    doubt: str = ''


ABSENT = Here(NOT_MEASURED, NOT_MEASURED)
Key = tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """How to make one of the paper's tables.

    Attributes:
        name: short, for links.
        title, note: what stands above it.
        kind: the command whose measurements are in it.
        identity: titles of the columns that tell rows apart.
        key_of: those columns of a measured row; None if it is not of this
            table.
        paper: the published rows of a platform by these columns.
        ratio: column of the measured ratio.
        ratio_title: what that is.
        unit: ``'batches'`` or ``'images'``, whose number per second it is.
        elsewhere: the published ratio of other conditions, to stand beside
            a measured row that has none of its own.
    """

    name: str
    title: str
    note: str
    kind: str
    identity: tuple[str, ...]
    key_of: Callable[[Row], Key | None]
    paper: Callable[[str], Mapping[Key, Paper]]
    ratio: str
    ratio_title: str
    unit: str = 'batches'
    elsewhere: Callable[[Key], float | None] = lambda key: None

    @property
    def columns(self) -> tuple[Column, ...]:
        """All of the table's columns."""
        speed = f'{self.unit} per second'
        return (
            *map(Column, self.identity),
            Column('batch', True),
            Column('paper', True, speed),
            Column('here', True, speed),
            Column('here / paper', True, speed),
            Column('paper', True, self.ratio_title),
            Column('here', True, self.ratio_title),
            Column('p10 to p90', True, self.ratio_title),
            Column('here / paper', True, self.ratio_title),
            Column('ms', True),
            Column('doubt'),
            Column('device'),
            Column('setting'),
        )

    def table(self, rows: Iterable[Row]) -> Table:
        """The table of some measurements and of all that was published.

        What was published for a platform stands once for each setting that
        was measured on it, or once, at the end, if none was.
        """
        rows, lines = list(rows), []
        for platform in PLATFORMS:
            published = self.paper(platform)
            groups = self._by_setting(rows, platform)
            for place, found in (groups or {('', ''): {}}).items():
                device, setting = place
                shown = device or f'{TITLES[platform]}: {NOT_MEASURED}'
                for cells in self._lines(published, found):
                    cells = (*cells, shown, setting or NONE)
                    lines.append(Line(cells, device, setting))
        lines.sort(key=lambda line: not line.device)
        return Table(self.name, self.title, self.note, self.columns, lines)

    def _by_setting(
        self, rows: Iterable[Row], platform: str
    ) -> dict[tuple[str, str], dict[tuple[Key, str], Row]]:
        """Rows by device and setting, then by key and batch."""
        groups: dict = {}
        for row in rows:
            key = self.key_of(row)
            on_gpu = row['device'] != 'cpu'
            if key is None or on_gpu != (platform == 'gpu'):
                continue
            place = device_name(row), setting_name(row)
            group = groups.setdefault(place, {})
            before = group.get((key, row['batch']))
            # A later failure does not undo a measurement.
            if not before or row['status'] == OK or before['status'] != OK:
                group[key, row['batch']] = row
        return groups

    def _lines(
        self,
        published: Mapping[Key, Paper],
        found: Mapping[tuple[Key, str], Row],
    ) -> list[Key]:
        """Published and measured rows in the paper's order."""
        order = {key: place for place, key in enumerate(published)}
        measured = {key for key, _ in found}
        lines = [
            (order.get(key, len(order)), self._measured(key, row))
            for (key, _), row in found.items()
        ]
        lines += [
            (order[key], _cells(key, NONE, paper, ABSENT))
            for key, paper in published.items()
            if key not in measured
        ]
        return [cells for _, cells in sorted(lines, key=lambda line: line[0])]

    def _measured(self, key: Key, row: Row) -> Key:
        ratio = _number(row[f'paper_{self.ratio}'])
        if ratio is None:
            ratio = self.elsewhere(key)
        paper = Paper(_number(row['paper_per_s']), ratio)
        here = Here(row['status'])
        if row['status'] == OK:
            each = int(row['batch']) if self.unit == 'images' else 1
            here = Here(
                f'{each * 1e3 / float(row["median_ms"]):.4g}',
                row[self.ratio],
                f'{row[self.ratio + "_p10"]} to {row[self.ratio + "_p90"]}',
                row['median_ms'],
                row['doubt'],
            )
        return _cells(key, row['batch'], paper, here)


def setting_name(row: Row) -> str:
    """Such as ``'fp32, folded, channels_last, 1 thread'``."""
    words = [row['precision'], row['mode'], row['layout']]
    if row['device'] == 'cpu':
        words.append(f'{row["threads"]} thread{"s" * (row["threads"] != "1")}')
    if row['clock'] == 'cpu':
        words.append('CPU clock')
    return ', '.join(words)


def _cells(key: Key, batch: str, paper: Paper, here: Here) -> Key:
    return (
        *key,
        batch,
        _text(paper.per_s),
        here.per_s,
        _over(here.per_s, paper.per_s),
        _text(paper.ratio),
        here.ratio,
        here.spread,
        _over(here.ratio, paper.ratio),
        here.ms,
        here.doubt,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(number: float | None) -> str:
    return NONE if number is None else f'{number:.4g}'


def _over(here: str, paper: float | None) -> str:
    value = _number(here)
    return f'{value / paper:.3g}' if value and paper else NONE
