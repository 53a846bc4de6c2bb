"""The report as one self-contained HTML page that works offline.

A table row is a dict of texts by title. The page filters rows by their
``device`` and ``setting``.
"""

import datetime
from collections.abc import Hashable
from pathlib import Path

from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

from .. import __version__
from ..measure.published import PAPER_KINDS, PAPER_PARTS, Key, speeds
from .claims import NOT_MEASURED, claim_rows
from .docs_tables import coco_map
from .figure1 import charts
from .results import (
    OK,
    Conditions,
    Measured,
    Results,
    Row,
    kind_of,
    read_results,
)

NONE = '-'
PLATFORMS = {'gpu': 'GPU', 'arm': 'CPU'}
# The paper's tables of speeds, by their anchors on the page.
PAPER_TABLES = {
    **{f'g{number}': f'Table {number}' for number in range(1, 5)},
    'table7': 'Table 7',
    'table8': 'Table 8',
    'appendix1a': 'Appendix Table 1a',
    'appendix1b': 'Appendix Table 1b',
}
# Columns that `own_rows` leaves out; most are in the table of environments.
BOOKKEEPING = {
    *Conditions._fields,
    *('schema', 'status', 'cores', 'load', 'python', 'commit', 'date'),
    *('p10_ms', 'p90_ms', 'runs', 'warmup_runs', 'warning'),
}


def make_page(folder: Path) -> tuple[str, list[str]]:
    """Return the report on a folder, and a line for each problem with it."""
    results = read_results(folder)
    environment = Environment(
        loader=PackageLoader(__package__, 'page'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests['number_text'] = _is_number
    environment.filters['titles'] = _titles
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


def _is_number(text: str) -> bool:
    return text.replace('.', '', 1).isdecimal()


def _titles(rows: list[Row]) -> list[str]:
    """Titles of all columns, which may differ between rows."""
    return list(dict.fromkeys(title for row in rows for title in row))


def page_tables(results: Results) -> dict[str, list[Row]]:
    """All tables of the page by name, except the claims."""
    tables = {}
    for name, table in PAPER_TABLES.items():
        tables[name] = paper_rows(table, results)
        if name == 'table7':
            tables['table7-mmap'] = accuracy_rows(results)
    for kind in ('ops', 'shuffle', 'deploy', 'backbones', 'detectors'):
        rows = own_rows(kind, results)
        if rows or kind not in PAPER_KINDS:
            tables[kind] = rows
    for name, rows in results.tables.items():
        if not kind_of(name):
            tables[f'file-{name}'] = rows
    return {**tables, 'environment': environment_rows(results)}


def paper_rows(table: str, results: Results) -> list[Row]:
    """A table of the paper: measured beside published figures.

    Each machine and setting has its own rows. Published figures that were
    not measured on such a device come last.
    """
    found: dict[Hashable, Measured] = {}
    for each in results.measured:
        if each.key and each.key.table == table:
            row = each.row
            place = each.conditions, each.key, row['batch'], row.get('part')
            # Prefer a measurement to a trial, and a trial to a failure.
            if _rank(each) >= _rank(found.get(place)):
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
    compared = {each.key for each in measured if each.published}
    return [
        *(_row(each.key, each) for each in measured),
        *(_row(key) for key in published if key not in compared),
    ]


def _rank(each: Measured | None) -> int:
    return each.is_sound + (each.row['status'] == OK) if each else 0


def _row(key: Key, each: Measured | None = None) -> Row:
    """Make a row of the published figure and the measured one, if any."""
    row = each.row if each else {}
    speed = each.published if each else speeds()[key]
    ratio = speed and speed.ratio
    part = row.get('part')
    if part in PAPER_PARTS and not speed:
        # Table 7 has no other ratios than those of a GPU and larger images.
        where = {'platform': 'gpu', 'input': '1200x800', 'batch': '4'}
        on_gpu = speeds().get(key._replace(**where))
        ratio = on_gpu and on_gpu.ratio
    is_ok = row.get('status') == OK
    here, low, high = each.ratio if is_ok and all(each.ratio) else [''] * 3
    per_s = each.per_s if is_ok else 0
    cells = {
        'column': key.column,
        'row': key.row,
        'input': key.input,
        **({'part': part} if key.table == 'Table 7' else {}),
        'batch': row.get('batch') or key.batch,
        'paper': speed and f'{speed.per_s:g}',
        'here': f'{per_s:.4g}' if is_ok else row.get('status', NOT_MEASURED),
        'here / paper': is_ok and speed and f'{per_s / speed.per_s:.3g}',
        'paper ratio': ratio and f'{ratio:.4g}',
        'here ratio': here,
        'p10 to p90': here and f'{low} to {high}',
        'here ratio / paper': here and ratio and f'{float(here) / ratio:.3g}',
        'ms': is_ok and row['median_ms'],
    }
    return {
        **{title: text or NONE for title, text in cells.items()},
        'warning': row.get('warning', ''),
        'device': f'{PLATFORMS.get(key.platform)}: {NOT_MEASURED}',
        'setting': NONE,
        **(_place(each) if each else {}),
    }


def _place(each: Measured) -> Row:
    conditions = each.conditions
    return {'device': conditions.machine, 'setting': conditions.setting}


def accuracy_rows(results: Results) -> list[Row]:
    """Table 7's mmAP in %, beside the one reached on COCO here."""
    return [
        {
            'column': key.column,
            'config': key.row,
            'paper': f'{paper:.1f}',
            'here': f'{here:.1f}' if here else NOT_MEASURED,
            'here / paper': f'{here / paper:.3g}' if here else NONE,
        }
        for key, paper, here in coco_map(results)
    ]


def own_rows(kind: str, results: Results) -> list[Row]:
    """Measurements of a kind that the paper has no table for."""
    found = []
    for each in results.measured:
        if each.kind == kind and not each.key:
            row = each.row
            cells = {k: v for k, v in row.items() if k not in BOOKKEEPING}
            if row['status'] != OK:
                cells['median_ms'] = row['status']
            warning = row.get('warning', '')
            found.append({**cells, 'warning': warning, **_place(each)})
    return found


def environment_rows(results: Results) -> list[Row]:
    """Machines and settings of all measurements, with dates and commits."""
    names = 'cpu', 'cores', 'torch', 'python'
    groups: dict[Hashable, list[Measured]] = {}
    for each in results.measured:
        key = *each.conditions, *(each.row[name] for name in names)
        groups.setdefault(key, []).append(each)
    table = []
    for group in groups.values():
        rows = [each.row for each in group]
        dates = rows[0]['date'], rows[-1]['date']
        table.append(
            {
                **_place(group[0]),
                **{name: rows[0][name] for name in names},
                'date': ' to '.join(dict.fromkeys(dates)),
                'commit': ', '.join(dict.fromkeys(r['commit'] for r in rows)),
                'files': ', '.join(dict.fromkeys(m.file for m in group)),
                'rows': str(len(group)),
            }
        )
    return table
