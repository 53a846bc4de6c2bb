"""The report as one HTML page that needs no network and no other file.

A row of a table is a dict of texts by title. Its ``device`` and ``setting``
are what the page filters by.
"""

import datetime
from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

from .. import __version__
from .claims import NOT_MEASURED, claim_rows
from .docs_tables import coco_map
from .figure1 import charts
from .published import (
    PAPER_PARTS,
    RATIOS,
    Key,
    Speed,
    figures,
    speeds,
)
from .results import (
    OK,
    Conditions,
    Measured,
    Results,
    Row,
    kind_of,
    read_results,
    warning_of,
)

NONE = '-'
PLATFORMS = {'gpu': 'GPU', 'arm': 'CPU'}
TIME = 'A ratio is time, where the first row is 1.'
SPEED = 'A ratio is speed, where ShuffleNet V2 of the column is 1.'
# The paper's tables of speeds: short name for links, title, note.
PAPER_TABLES = {
    'Table 1': ('g1', 'equal channel width', TIME),
    'Table 2': ('g2', 'group convolution', TIME),
    'Table 3': ('g3', 'fragments', TIME),
    'Table 4': ('g4', 'element-wise operations', TIME),
    'Table 7': (
        'table7',
        'Light-Head R-CNN, images per second',
        f'{SPEED} The paper measured a GPU at batch 4 and 800x1200 and does '
        'not say which part; its ratios stand beside every device.',
    ),
    'Table 8': (
        'table8',
        'whole networks, batches per second',
        f'{SPEED} GPU at batch 8; ARM with one thread at batch 1.',
    ),
    'Appendix Table 1a': (
        'appendix1a',
        'whole networks on larger images, batches per second',
        SPEED,
    ),
    'Appendix Table 1b': (
        'appendix1b',
        'ten units in series at equal FLOPs, batches per second',
        SPEED,
    ),
}
# Kinds of measurements that may have no published speed.
OWN_KINDS = {
    'ops': "Ops: PSRoI pooling against torchvision's",
    'shuffle': 'Shuffle: channel split and shuffle against the plain way',
    'deploy': 'Deployment: exported detectors and others',
    'backbones': 'Other networks: no published speed',
    'detectors': 'Other detectors: no published speed',
}
FILES = {
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


class PageTable(NamedTuple):
    """What the page shows as one table; ``name`` is for links."""

    name: str
    title: str
    rows: list[Row]
    note: str

    @property
    def titles(self) -> list[str]:
        """Of all columns; files of one kind may have different ones."""
        return list(dict.fromkeys(title for row in self.rows for title in row))


def make_page(folder: Path) -> tuple[str, list[str]]:
    """Make the report on a folder of results.

    Returns:
        the page, and what could not be shown, a line each.

    Raises:
        UserError: there is no such folder.
    """
    results = read_results(folder)
    environment = Environment(
        loader=PackageLoader(__package__, 'page'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests['number_text'] = lambda text: text.replace(
        '.', '', 1
    ).isdecimal()
    conditions = {each.conditions for each in results.measured}
    page = environment.get_template('page.html').render(
        folder=folder,
        made=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        version=__version__,
        problems=results.problems,
        claims=claim_rows(results),
        charts=charts(results),
        tables=page_tables(results),
        filters={
            'device': sorted({each.machine for each in conditions}),
            'setting': sorted({each.setting for each in conditions}),
        },
        plotlyjs=get_plotlyjs(),
        absent=(NOT_MEASURED, NONE),
    )
    return page, results.problems


def page_tables(results: Results) -> list[PageTable]:
    """All tables of the page but that of the claims."""
    found = []
    for table, (name, title, note) in PAPER_TABLES.items():
        rows = paper_rows(table, results)
        found.append(PageTable(name, f'{table}: {title}', rows, note))
        if name == 'table7':
            title = 'Table 7, mmAP: Light-Head R-CNN on COCO'
            note = 'In %, trained on COCO by the recipe of the config.'
            rows = accuracy_rows(results)
            found.append(PageTable('table7-mmap', title, rows, note))
    for kind, title in OWN_KINDS.items():
        rows = own_rows(kind, results)
        if rows or kind not in RATIOS:
            note = '' if rows else f'Not measured: tools/benchmark.py {kind}'
            found.append(PageTable(kind, title, rows, note))
    for name, rows in results.tables.items():
        if not kind_of(name):
            title = FILES.get(name, f'{name}.csv')
            note = f'As it is in {name}.csv.'
            found.append(PageTable(f'file-{name}', title, rows, note))
    rows = environment_rows(results)
    note = '' if rows else 'Nothing was measured yet.'
    return [*found, PageTable('environment', 'Environment', rows, note)]


def paper_rows(table: str, results: Results) -> list[Row]:
    """A table of the paper: what was measured, and what was published.

    Each machine and setting has its own rows. What was published and not
    measured on that kind of device stands at the end.
    """
    found: dict[Hashable, Measured] = {}
    for each in results.measured:
        if each.key and each.key.table == table:
            row = each.row
            place = each.conditions, each.key, row['batch'], row.get('part')
            before = found.get(place)
            # A measurement goes before a try, and a try before a failure.
            if not before or _weight(each) >= _weight(before):
                found[place] = each
    published = [key for key in speeds() if key.table == table]
    order = {(key.column, key.row): at for at, key in enumerate(published)}
    measured = sorted(
        found.values(),
        key=lambda each: (
            each.conditions,
            order.get((each.key.column, each.key.row), len(order)),
        ),
    )
    there = {each.key for each in measured if each.published}
    return [
        *(_measured_row(each) for each in measured),
        *(
            _row(key, speeds()[key], NONE, speeds()[key].ratio)
            for key in published
            if key not in there
        ),
    ]


def _weight(each: Measured) -> int:
    return 2 if each.is_sound else each.row['status'] == OK


def _row(key: Key, speed: Speed | None, part: str, ratio: float | None) -> Row:
    """The paper's cells, and those of what was not measured."""
    return {
        'column': key.column,
        'row': key.row,
        'input': key.input,
        **({'part': part} if key.table == 'Table 7' else {}),
        'batch': key.batch or NONE,
        'paper': f'{speed.per_s:g}' if speed else NONE,
        'here': NOT_MEASURED,
        'here / paper': NONE,
        'paper ratio': f'{ratio:.4g}' if ratio else NONE,
        'here ratio': NONE,
        'p10 to p90': NONE,
        'here ratio / paper': NONE,
        'ms': NONE,
        'warning': '',
        'device': f'{PLATFORMS[key.platform]}: {NOT_MEASURED}',
        'setting': NONE,
    }


def _measured_row(each: Measured) -> Row:
    """What was measured, in the cells beside the paper's."""
    row, key, speed = each.row, each.key, each.published
    ratio = speed and speed.ratio
    if key.table == 'Table 7' and row['part'] in PAPER_PARTS:
        # The ratios of a GPU and larger images, for want of others.
        gpu = key._replace(platform='gpu', input='1200x800', batch='4')
        ratio = speeds()[gpu].ratio if gpu in speeds() else None
    cells = _row(key, speed, row.get('part', NONE), ratio)
    cells |= {'batch': row['batch'], 'here': row['status'], **_place(each)}
    cells['warning'] = warning_of(row)
    if row['status'] == OK:
        images = int(row['batch']) if each.kind == 'detectors' else 1
        per_s = images * 1e3 / float(row['median_ms'])
        cells |= {'here': f'{per_s:.4g}', 'ms': row['median_ms']}
        if speed:
            cells['here / paper'] = f'{per_s / speed.per_s:.3g}'
        if all(each.ratio):
            value, low, high = each.ratio
            cells |= {'here ratio': value, 'p10 to p90': f'{low} to {high}'}
            if ratio:
                cells['here ratio / paper'] = f'{float(value) / ratio:.3g}'
    return cells


def _place(each: Measured) -> Row:
    conditions = each.conditions
    return {'device': conditions.machine, 'setting': conditions.setting}


def accuracy_rows(results: Results) -> list[Row]:
    """Table 7's mmAP, in %, beside what was trained on COCO here."""
    trained = coco_map(results)
    rows = []
    for key, quantity, paper, *_ in figures():
        if quantity == 'mmAP':
            here = trained.get(key.row)
            rows.append(
                {
                    'column': key.column,
                    'config': key.row,
                    'paper': f'{paper:.1f}',
                    'here': f'{here:.1f}' if here else NOT_MEASURED,
                    'here / paper': f'{here / paper:.3g}' if here else NONE,
                }
            )
    return rows


def own_rows(kind: str, results: Results) -> list[Row]:
    """Measurements of a kind that the paper has nothing beside."""
    found = []
    for each in results.measured:
        table = each.key and each.key.table
        if each.kind == kind and table not in PAPER_TABLES:
            row = each.row
            cells = {k: v for k, v in row.items() if k not in BOOKKEEPING}
            if row['status'] != OK:
                cells['median_ms'] = row['status']
            cells['warning'] = warning_of(row)
            found.append({**cells, **_place(each)})
    return found


def environment_rows(results: Results) -> list[Row]:
    """What measurements were made on, when, and of which commit."""
    names = 'cpu', 'cores', 'torch', 'python'
    groups: dict[Hashable, list[Measured]] = {}
    for each in results.measured:
        key = *each.conditions, *(each.row[name] for name in names)
        groups.setdefault(key, []).append(each)
    return [
        {
            **_place(group[0]),
            **{name: group[0].row[name] for name in names},
            'date': _listed((group[0], group[-1]), 'date', ' to '),
            'commit': _listed(group, 'commit'),
            'files': ', '.join(dict.fromkeys(each.file for each in group)),
            'rows': str(len(group)),
        }
        for group in groups.values()
    ]


def _listed(group: list[Measured], name: str, between: str = ', ') -> str:
    return between.join(dict.fromkeys(each.row[name] for each in group))
