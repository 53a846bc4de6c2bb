"""The tables of the page: the paper's beside what was measured, and others.

A row is a dict of texts by title. Its ``device`` and ``setting`` are what the
page filters by.
"""

from collections.abc import Hashable, Iterable, Sequence
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


class PageTable(NamedTuple):
    """What the page shows as one table; ``name`` is for links."""

    name: str
    title: str
    rows: Sequence[Row]
    note: str = ''

    @property
    def titles(self) -> list[str]:
        """Of all columns; files of one kind may have different ones."""
        return list(dict.fromkeys(title for row in self.rows for title in row))


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
    note: str = 'A ratio is time, where the first row is 1.'


SPEED = 'A ratio is speed, where ShuffleNet V2 of the column is 1.'
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
        f'{SPEED} The paper measured a GPU at batch 4 and 800x1200 and does '
        'not say which part; its ratios stand beside every device.',
    ),
    PaperTable(
        'Table 8',
        'table8',
        'whole networks, batches per second',
        'backbones',
        f'{SPEED} GPU at batch 8; ARM with one thread at batch 1.',
    ),
    PaperTable(
        'Appendix Table 1a',
        'appendix1a',
        'whole networks on larger images, batches per second',
        'backbones',
        SPEED,
    ),
    PaperTable(
        'Appendix Table 1b',
        'appendix1b',
        'ten units in series at equal FLOPs, batches per second',
        'backbones',
        SPEED,
    ),
)
OWN_TITLES = {
    'ops': "Ops: PSRoI pooling against torchvision's",
    'shuffle': 'Shuffle: channel split and shuffle against the plain way',
    'deploy': 'Deployment: exported detectors and others',
    'backbones': 'Other networks: no published speed',
    'detectors': 'Other detectors: no published speed',
    'trained': 'Trainings',
    'bccd_backbones': 'Trainings on BCCD: backbones compared',
    'pretraining': 'Trainings with and without pretraining',
    'versions': 'Versions: what was run',
    'feature_reuse': 'Figure 4: reuse of features',
    'analysis_cpu': 'Figure 2: where the time goes',
}
# Columns of measurements that the table of environments has.
BOOKKEEPING = {
    *Conditions._fields,
    *('schema', 'status', 'cores', 'load', 'python', 'commit', 'date'),
    *('p10_ms', 'p90_ms', 'runs', 'warmup_runs', 'doubt', 'warning'),
}


def page_tables(files: Sequence[ResultFile]) -> list[PageTable]:
    """All tables of the page but that of the claims."""
    found = []
    for about in PAPER_TABLES:
        title = f'{about.table}: {about.title}'
        rows = paper_rows(about, files)
        found.append(PageTable(about.name, title, rows, about.note))
    title = 'Table 7, mmAP: Light-Head R-CNN on COCO'
    note = 'In %, trained on COCO by the recipe of the config.'
    accuracy = PageTable('table7-mmap', title, accuracy_rows(files), note)
    found.insert(5, accuracy)
    for kind in ('ops', 'shuffle', 'deploy', 'backbones', 'detectors'):
        rows = own_rows(kind, files)
        if kind in RATIOS and not rows:
            continue
        note = '' if rows else f'Not measured: tools/benchmark.py {kind}'
        found.append(PageTable(kind, OWN_TITLES[kind], rows, note))
    for file in files:
        if not file.kind:
            name = file.path.stem
            title = OWN_TITLES.get(name, file.path.name)
            note = f'As it is in {file.path.name}.'
            found.append(PageTable(f'file-{name}', title, file.rows, note))
    rows = environment_rows(files)
    note = '' if rows else 'Nothing was measured yet.'
    return [*found, PageTable('environment', 'Environment', rows, note)]


def paper_rows(about: PaperTable, files: Iterable[ResultFile]) -> list[Row]:
    """A table of the paper: what was measured, and what was published.

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
    order = {(key.column, key.row): at for at, key in enumerate(speeds())}
    measured = sorted(
        found.values(),
        key=lambda pair: (
            conditions_of(pair[1]),
            order.get((pair[0].column, pair[0].row), len(order)),
        ),
    )
    there = {key for key, _ in found.values()}
    absent = [k for k in speeds() if k.table == about.table and k not in there]
    return [
        *(_row(about, key, row) for key, row in measured),
        *(_row(about, key, None) for key in absent),
    ]


def _weight(row: Row) -> int:
    """A measurement goes before a try, and a try before a failure."""
    return 2 if is_measured(row) else row['status'] == OK


def _row(about: PaperTable, key: Key, row: Row | None) -> Row:
    """What was published beside what was measured, if anything was."""
    speed = speeds().get(key)
    ratio = speed.ratio if speed else _ratio_elsewhere(key)
    cells = dict(column=key.column, row=key.row, input=key.input)
    if about.kind == 'detectors':
        cells['part'] = row['part'] if row else NONE
    cells['batch'] = (row and row.get('batch')) or key.batch or NONE
    cells['paper'] = f'{speed.per_s:g}' if speed else NONE
    here = dict.fromkeys(
        ('here', 'here / paper', 'paper ratio', 'here ratio', 'p10 to p90'),
        NONE,
    )
    here |= {'here ratio / paper': NONE, 'ms': NONE, 'warning': ''}
    here['here'] = row['status'] if row else NOT_MEASURED
    if ratio:
        here['paper ratio'] = f'{ratio:.4g}'
    if row and row['status'] == OK:
        each = int(row['batch']) if about.kind == 'detectors' else 1
        per_s = each * 1e3 / float(row['median_ms'])
        here |= {'here': f'{per_s:.4g}', 'ms': row['median_ms']}
        if speed:
            here['here / paper'] = f'{per_s / speed.per_s:.3g}'
        name = RATIOS[about.kind]
        if row[name]:
            here['here ratio'] = row[name]
            here['p10 to p90'] = f'{row[f"{name}_p10"]} to '
            here['p10 to p90'] += row[f'{name}_p90']
            if ratio:
                over = float(row[name]) / ratio
                here['here ratio / paper'] = f'{over:.3g}'
    if not row:
        device = f'{PLATFORMS[key.platform]}: {NOT_MEASURED}'
        return {**cells, **here, 'device': device, 'setting': NONE}
    here['warning'] = warning_of(row)
    return {**cells, **here, **_place(row)}


def _place(row: Row) -> Row:
    conditions = conditions_of(row)
    return dict(device=conditions.machine, setting=conditions.setting)


def _ratio_elsewhere(key: Key) -> float | None:
    """Table 7's ratio: of a GPU and larger images, for want of others."""
    wanted = key._replace(platform='gpu', input='1200x800', batch='4')
    speed = speeds().get(wanted) if key.table == 'Table 7' else None
    return speed and speed.ratio


def accuracy_rows(files: Iterable[ResultFile]) -> list[Row]:
    """Table 7's mmAP, in %, beside what was trained on COCO here."""
    trained = {
        row.get('config'): row
        for row in plain_rows(files, 'trained')
        if row.get('data', '').startswith('COCO') and row.get('mAP')
    }
    rows = []
    for key, quantity, paper, *_ in figures():
        if quantity == 'mmAP':
            run = trained.get(key.row)
            here = 100 * float(run['mAP']) if run else 0
            rows.append(
                {
                    'column': key.column,
                    'config': key.row,
                    'paper': f'{paper:.1f}',
                    'here': f'{here:.1f}' if run else NOT_MEASURED,
                    'here / paper': f'{here / paper:.3g}' if run else NONE,
                }
            )
    return rows


def own_rows(kind: str, files: Iterable[ResultFile]) -> list[Row]:
    """Measurements of a kind that the paper has nothing beside."""
    tables = {about.table for about in PAPER_TABLES}
    found = []
    for row in rows_of(files, kind):
        key = key_of(kind, row)
        if not key or key.table not in tables:
            cells = {k: v for k, v in row.items() if k not in BOOKKEEPING}
            if row['status'] != OK:
                cells['median_ms'] = row['status']
            cells['warning'] = warning_of(row)
            found.append({**cells, **_place(row)})
    return found


def environment_rows(files: Iterable[ResultFile]) -> list[Row]:
    """What measurements were made on, when, and of which commit."""
    names = ('cpu', 'cores', 'torch', 'python')
    groups: dict[Hashable, list[tuple[str, Row]]] = {}
    for file in files:
        for row in file.rows if file.kind else ():
            key = *conditions_of(row), *(row[name] for name in names)
            groups.setdefault(key, []).append((file.path.name, row))
    found = []
    for group in groups.values():
        rows = [row for _, row in group]
        dates = sorted({row['date'] for row in rows})
        found.append(
            {
                **_place(rows[0]),
                **{name: rows[0][name] for name in names},
                'date': ' to '.join(dict.fromkeys((dates[0], dates[-1]))),
                'commit': ', '.join(dict.fromkeys(r['commit'] for r in rows)),
                'files': ', '.join(dict.fromkeys(name for name, _ in group)),
                'rows': str(len(rows)),
            }
        )
    return found
