"""The tables of the page: the paper's beside what was measured, and others."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from .claims import NOT_MEASURED
from .published import RATIOS, Key, figures, key_of, speeds
from .results import (
    OK,
    Conditions,
    ResultFile,
    Row,
    conditions_of,
    is_measured,
    plain_rows,
    rows_of,
    warning_of,
)

NONE = '-'
PLATFORMS = {'gpu': 'GPU', 'arm': 'CPU'}


class Column(NamedTuple):
    """A column's title, whether it has numbers, and what is above it."""

    title: str
    numeric: bool = False
    group: str = ''


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        cells: texts, one for each column.
        machine: its name; empty for what only the paper has.
        setting: threads, precision and so on.
    """

    cells: tuple[str, ...]
    machine: str = ''
    setting: str = ''


@dataclass(frozen=True)
class PageTable:
    """What the page shows as one table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: Sequence[Line]
    note: str = ''

    @property
    def groups(self) -> list[tuple[str, int]]:
        """What is above the columns, and above how many of them."""
        return [
            (group, len(list(columns)))
            for group, columns in groupby(c.group for c in self.columns)
        ]


class PaperTable(NamedTuple):
    """One of the paper's tables of speeds.

    Attributes:
        table: as in ``published.csv``.
        name: short, for links.
        title: what it is about.
        kind: of the measurements in it.
        note: what stands above it.
    """

    table: str
    name: str
    title: str
    kind: str
    note: str = ''


PAPER_TABLES = (
    PaperTable('Table 1', 'g1', 'equal channel width', 'guidelines'),
    PaperTable('Table 2', 'g2', 'group convolution', 'guidelines'),
    PaperTable('Table 3', 'g3', 'fragments', 'guidelines'),
    PaperTable('Table 4', 'g4', 'element-wise operations', 'guidelines'),
    PaperTable(
        'Table 7',
        'table7',
        'Light-Head R-CNN, images per second',
        'detectors',
        'The paper measured a GPU at batch 4 and 800x1200 and does not say '
        'which part; its ratios stand beside every device.',
    ),
    PaperTable(
        'Table 8',
        'table8',
        'whole networks',
        'backbones',
        'GPU at batch 8; ARM with one thread at batch 1.',
    ),
    PaperTable(
        'Appendix Table 1a',
        'appendix1a',
        'whole networks on larger images',
        'backbones',
    ),
    PaperTable(
        'Appendix Table 1b',
        'appendix1b',
        'ten units in series at equal FLOPs',
        'backbones',
    ),
)
RATIO_TITLES = {
    'time_ratio': 'time, first row = 1',
    'speed_ratio': 'speed, ShuffleNet V2 = 1',
}


def paper_table(about: PaperTable, files: Iterable[ResultFile]) -> PageTable:
    """One of the paper's tables: what was measured, and what was published.

    Each machine and setting has its own rows. What was published and not
    measured on that kind of device stands at the end.
    """
    found: dict[Hashable, tuple[Key, Row]] = {}
    for row in rows_of(files, about.kind):
        key = key_of(about.kind, row)
        if key and key.table == about.table:
            place = conditions_of(row), key, row['batch'], row.get('part')
            before = found.get(place)
            if not before or _weight(row) >= _weight(before[1]):
                found[place] = key, row
    order = {
        (key.column, key.row): place for place, key in enumerate(speeds())
    }
    measured = sorted(
        found.values(),
        key=lambda pair: (
            conditions_of(pair[1]),
            order.get((pair[0].column, pair[0].row), len(order)),
        ),
    )
    lines = [_measured(about, key, row) for key, row in measured]
    there = {key for key, _ in found.values()}
    for key in speeds():
        if key.table == about.table and key not in there:
            lines.append(_unmeasured(about, key))
    title = RATIO_TITLES[RATIOS[about.kind]]
    per_s = (
        f'{"images" if about.kind == "detectors" else "batches"} per second'
    )
    part = (Column('part'),) if about.kind == 'detectors' else ()
    columns = (
        Column('column'),
        Column('row'),
        *part,
        Column('input'),
        Column('batch', True),
        Column('paper', True, per_s),
        Column('here', True, per_s),
        Column('here / paper', True, per_s),
        Column('paper', True, title),
        Column('here', True, title),
        Column('p10 to p90', True, title),
        Column('here / paper', True, title),
        Column('ms', True),
        Column('warning'),
        Column('device'),
        Column('setting'),
    )
    name = f'{about.table}: {about.title}'
    return PageTable(about.name, name, columns, lines, about.note)


def _weight(row: Row) -> int:
    """A measurement goes before a try, and a try before a failure."""
    return 2 if is_measured(row) else row['status'] == OK


def _cells(about: PaperTable, key: Key, row: Row) -> tuple[str, ...]:
    part = (row.get('part', NONE),) if about.kind == 'detectors' else ()
    batch = row.get('batch') or key.batch or NONE
    return (key.column, key.row, *part, key.input, batch)


def _unmeasured(about: PaperTable, key: Key) -> Line:
    speed = speeds()[key]
    absent = NOT_MEASURED, NONE
    cells = (
        *_cells(about, key, {}),
        f'{speed.per_s:g}',
        *absent,
        f'{speed.ratio:.4g}',
        NOT_MEASURED,
        *(NONE,) * 4,
        f'{PLATFORMS[key.platform]}: {NOT_MEASURED}',
        NONE,
    )
    # The last empty one is the warning.
    return Line(cells)


def _measured(about: PaperTable, key: Key, row: Row) -> Line:
    conditions, ratio = conditions_of(row), RATIOS[about.kind]
    paper = speeds().get(key)
    paper_ratio = paper.ratio if paper else _ratio_elsewhere(key)
    here = spread = over = ms = NONE
    per_s = row['status']
    if row['status'] == OK:
        images = int(row['batch']) if about.kind == 'detectors' else 1
        per_s = f'{images * 1e3 / float(row["median_ms"]):.4g}'
        ms = row['median_ms']
        over = _over(per_s, paper and paper.per_s)
        here = row[ratio] or NONE
        if row[ratio]:
            spread = f'{row[f"{ratio}_p10"]} to {row[f"{ratio}_p90"]}'
    cells = (
        *_cells(about, key, row),
        f'{paper.per_s:g}' if paper else NONE,
        per_s,
        over,
        f'{paper_ratio:.4g}' if paper_ratio else NONE,
        here,
        spread,
        _over(here, paper_ratio),
        ms,
        warning_of(row),
        conditions.machine,
        conditions.setting,
    )
    return Line(cells, conditions.machine, conditions.setting)


def _ratio_elsewhere(key: Key) -> float | None:
    """Table 7's ratio: of a GPU and larger images, for want of others."""
    wanted = key._replace(platform='gpu', input='1200x800', batch='4')
    speed = speeds().get(wanted) if key.table == 'Table 7' else None
    return speed and speed.ratio


def _over(here: str, paper: float | None) -> str:
    return f'{float(here) / paper:.3g}' if here != NONE and paper else NONE


def accuracy_table(files: Iterable[ResultFile]) -> PageTable:
    """Table 7's mmAP beside what was trained on COCO here."""
    trained = {
        row.get('config'): row
        for row in plain_rows(files, 'trained')
        if row.get('data', '').startswith('COCO') and row.get('mAP')
    }
    lines = []
    for key, quantity, paper, *_ in figures():
        if quantity == 'mmAP':
            row = trained.get(key.row, {})
            here = ratio = NONE
            if row:
                here = f'{100 * float(row["mAP"]):.1f}'
                ratio = _over(here, paper)
            cells = key.column, key.row, f'{paper:g}', here, ratio
            device = row.get('device', '')
            lines.append(Line((*cells, device or NOT_MEASURED), device))
    return PageTable(
        'table7-mmap',
        'Table 7: Light-Head R-CNN, mmAP on COCO',
        (
            Column('column'),
            Column('row'),
            Column('paper', True, 'mmAP'),
            Column('here', True, 'mmAP'),
            Column('here / paper', True, 'mmAP'),
            Column('device'),
        ),
        lines,
        'In %, trained on COCO by the recipe of the config.',
    )


# Measurements that the paper has nothing beside: title, and columns.
OWN = {
    'ops': (
        "Ops: PSRoI pooling against torchvision's",
        (
            'op',
            'map',
            'rois',
            'map_layout',
            'passes',
            'median_ms',
            'torchvision_ms',
            'times_faster',
            'times_faster_p10',
            'times_faster_p90',
        ),
    ),
    'shuffle': (
        'Shuffle: channel split and shuffle against the plain way',
        (
            'part',
            'input',
            'batch',
            'passes',
            'median_ms',
            'plain_ms',
            'times_faster',
            'times_faster_p10',
            'times_faster_p90',
        ),
    ),
}
TITLES = {
    'trained': 'Trainings',
    'bccd_backbones': 'Trainings on BCCD: backbones compared',
    'pretraining': 'Trainings with and without pretraining',
    'versions': 'Versions: what was run',
    'feature_reuse': 'Figure 4: reuse of features',
    'analysis_cpu': 'Figure 2: where the time goes',
}


def own_table(kind: str, files: Iterable[ResultFile]) -> PageTable:
    """Measurements that the paper has nothing beside."""
    title, names = OWN[kind]
    lines = []
    for row in rows_of(files, kind):
        conditions = conditions_of(row)
        cells = [row.get(name) or NONE for name in names]
        if row['status'] != OK:
            cells[names.index('median_ms')] = row['status']
        place = conditions.machine, conditions.setting
        lines.append(Line((*cells, warning_of(row), *place), *place))
    columns = [
        Column(name.replace('_', ' '), name.endswith(NUMERIC))
        for name in names
    ]
    last = map(Column, ('warning', 'device', 'setting'))
    note = '' if lines else f'Not measured: python tools/benchmark.py {kind}'
    return PageTable(kind, title, (*columns, *last), lines, note)


NUMERIC = ('_ms', 'faster', '_p10', '_p90', 'rois', 'batch')


def plain_table(file: ResultFile) -> PageTable:
    """A file of no measurements that can be compared, as it is."""
    name = file.path.stem
    return PageTable(
        f'file-{name}',
        TITLES.get(name, file.path.name),
        tuple(map(Column, file.columns)),
        [
            Line(
                tuple(row[column] or NONE for column in file.columns),
                row.get('device', ''),
            )
            for row in file.rows
        ],
        f'As it is in {file.path.name}.',
    )


def environment_table(files: Iterable[ResultFile]) -> PageTable:
    """What measurements were made on, when, and of which commit."""
    names = (*Conditions._fields, 'cores', 'python')
    found: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
    for file in files:
        for row in file.rows if file.kind else ():
            key = tuple(row[name] for name in names)
            found.setdefault(key, []).append((file.path.name, row))
    lines = []
    for key, group in found.items():
        rows = [row for _, row in group]
        dates = sorted({row['date'] for row in rows})
        conditions = conditions_of(rows[0])
        cells = (
            *key,
            ' to '.join(dict.fromkeys((dates[0], dates[-1]))),
            ', '.join(dict.fromkeys(row['commit'] for row in rows)),
            ', '.join(dict.fromkeys(name for name, _ in group)),
            str(len(rows)),
        )
        lines.append(Line(cells, conditions.machine, conditions.setting))
    return PageTable(
        'environment',
        'Environment',
        (
            *map(Column, (*names, 'date', 'commit', 'files')),
            Column('rows', True),
        ),
        lines,
        '' if lines else 'Nothing was measured yet.',
    )


def page_tables(files: Sequence[ResultFile]) -> list[PageTable]:
    """All tables of the page but that of the claims."""
    found = []
    for about in PAPER_TABLES:
        found.append(paper_table(about, files))
        if about.table == 'Table 7':
            found.append(accuracy_table(files))
    found += [own_table(kind, files) for kind in OWN]
    found += [plain_table(file) for file in files if not file.kind]
    return [*found, environment_table(files)]
