"""The report as one HTML page that needs no network and no other file."""

import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

from .. import __version__
from .claims import NOT_MEASURED, claim_rows
from .figure1 import charts
from .page_tables import NONE, page_tables
from .results import conditions_of, read_results


def make_page(folder: Path) -> tuple[str, list[str]]:
    """Make the report on a folder of results.

    Returns:
        the page, and what could not be shown, a line each.

    Raises:
        UserError: there is no such folder.
    """
    files = read_results(folder)
    problems = [problem for file in files for problem in file.problems]
    tables = page_tables(files)
    measured = [
        conditions_of(row) for file in files if file.kind for row in file.rows
    ]
    environment = Environment(
        loader=PackageLoader(__package__, 'page'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests['number_text'] = _is_number
    page = environment.get_template('page.html').render(
        folder=folder,
        made=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        version=__version__,
        problems=problems,
        claims=claim_rows(files),
        charts=charts(files),
        tables=tables,
        filters={
            'device': sorted({each.machine for each in measured}),
            'setting': sorted({each.setting for each in measured}),
        },
        plotlyjs=get_plotlyjs(),
        absent=(NOT_MEASURED, NONE),
    )
    return page, problems


def _is_number(text: str) -> bool:
    return text.replace('.', '', 1).isdecimal()
