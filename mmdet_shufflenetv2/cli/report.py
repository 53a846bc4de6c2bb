"""Write one HTML page of all measurements, next to the paper's figures.

    python tools/report.py
    python tools/report.py --results results --out report.html

The page shows Figure 1 as charts, every table with published and measured
figures and their ratio, filters by device and setting, and the environment. It
is self-contained and opens offline. Needs plotly (pip install .[report]).
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from ..compat.atomic_files import whole_file
from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('results'),
        metavar='DIR',
        help='folder of the CSV files; default: %(default)s',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('report.html'),
        metavar='FILE',
        help='default: %(default)s',
    )


def run(args: argparse.Namespace) -> None:
    absent = [name for name in ('plotly', 'jinja2') if not find_spec(name)]
    if absent:
        raise UserError(
            f'the report needs {" and ".join(absent)}: pip install '
            f'.[report] in a checkout, or pip install {" ".join(absent)}'
        )
    from ..paper.page import make_page

    page, problems = make_page(args.results)
    with whole_file(args.out, 'w', encoding='utf-8') as file:
        file.write(page)
    for problem in problems:
        print(f'not shown: {problem}', file=sys.stderr)
    print(f'written to {args.out}')
