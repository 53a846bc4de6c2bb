"""The report as one HTML page that needs no network and no other file."""

import base64
import datetime
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import chain
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ..measure.environment import commit
from .claims import NOT_MEASURED, claim_rows
from .comparison import NONE, Column, Line, Table
from .figure1 import FAMILIES, OF_THE_PAPER, PAPER, Chart, charts
from .other_tables import (
    WITHOUT_PAPER,
    accuracy_table,
    command_table,
    environment_table,
    plain_table,
)
from .paper_tables import COMPARISONS
from .results import ResultFile, Row, read_results, rows_by_kind

# Value of a filter for rows that no device here has measured.
NOBODY = 'none'


def make_page(folder: Path) -> tuple[str, list[str]]:
    """Make the report on a folder of results.

    Returns:
        the page, and what could not be shown, a line each.

    Raises:
        UsageError: there is no such folder.
    """
    results = read_results(folder)
    problems = [problem for file in results for problem in file.problems]
    tables = _tables(results)
    environment = environment_table(results)
    panels = charts(_rows(results, 'backbones'))
    devices, settings = _numbered([*tables, environment])
    scripts = [Markup(get_plotlyjs()), Markup(_own('page.js'))]
    template = Environment(
        loader=PackageLoader(__package__, 'page'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template('page.html')
    page = template.render(
        style=Markup(_own('page.css')),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        folder=folder,
        made=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        commit=commit(),
        problems=problems,
        claims=_claims(results),
        charts=panels,
        chart_data=[_chart_data(p, devices, settings) for p in panels],
        families=FAMILIES,
        of_the_paper=OF_THE_PAPER,
        tables=[*tables, environment],
        devices=devices,
        settings=settings,
        nobody=NOBODY,
        absent=NOT_MEASURED,
        dash=NONE,
    )
    return page, problems


def _own(name: str) -> str:
    return files(__package__).joinpath('page', name).read_text('utf-8')


def _hash(script: str) -> str:
    """By which a browser knows a script that it may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f'sha256-{base64.b64encode(digest).decode()}'


def _rows(results: Sequence[ResultFile], kind: str) -> list[Row]:
    return [row for file in results if file.kind == kind for row in file.rows]


def _claims(results: Sequence[ResultFile]) -> Table:
    rows = claim_rows(rows_by_kind(results))
    return Table(
        'claims',
        "The paper's claims",
        '',
        tuple(map(Column, rows[0])),
        [Line(tuple(row.values())) for row in rows],
    )


def _tables(results: Sequence[ResultFile]) -> list[Table]:
    """All tables but that of the claims and that of the environment."""
    found = []
    for comparison in COMPARISONS:
        found.append(comparison.table(_rows(results, comparison.kind)))
        if comparison.name == 'table7':
            found.append(accuracy_table(results))
    for name in WITHOUT_PAPER:
        found.append(command_table(name, _rows(results, name)))
    found += [plain_table(file) for file in results if not file.kind]
    return found


def _numbered(
    tables: Iterable[Table],
) -> tuple[dict[str, str], dict[str, str]]:
    """Numbers of devices and settings, which a page's filters go by."""
    lines = list(chain.from_iterable(table.lines for table in tables))
    return tuple(
        {name: str(number) for number, name in enumerate(sorted(names))}
        for names in (
            {line.device for line in lines} - {''},
            {line.setting for line in lines} - {''},
        )
    )


def _chart_data(
    chart: Chart, devices: dict[str, str], settings: dict[str, str]
) -> dict:
    """What plotly.js draws, with numbers for devices and settings."""
    data = chart.figure.to_plotly_json()
    for trace in data['data']:
        meta = trace['meta']
        if meta['device'] != PAPER:
            meta['device'] = devices[meta['device']]
            meta['setting'] = settings[meta['setting']]
    return {'name': chart.name, **data}
