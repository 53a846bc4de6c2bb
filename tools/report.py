"""One HTML page of all that was measured, beside the paper's figures.

    python tools/report.py
    python tools/report.py --results results --out report.html

Figure 1 as charts, every table with the paper's figure, the measured one and
their ratio, filters by device and setting, and the environment. The page holds
all it needs and opens without a network. Needs plotly (pip install .[report]).
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from mmdet_shufflenetv2.compat.atomic_files import whole_file
from mmdet_shufflenetv2.engine.command_line import (
    make_parser,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.run_config import UsageError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
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
    return parser.parse_args()


def require_libraries() -> None:
    """Raise a UsageError unless the extra ``report`` is installed."""
    absent = [name for name in ('plotly', 'jinja2') if not find_spec(name)]
    if absent:
        raise UsageError(
            f'the report needs {" and ".join(absent)}: pip install '
            f'.[report] in a checkout, or pip install {" ".join(absent)}'
        )


def main() -> None:
    args = parse_args()
    require_libraries()
    from mmdet_shufflenetv2.paper.page import make_page

    page, problems = make_page(args.results)
    with whole_file(args.out, 'w', encoding='utf-8') as file:
        file.write(page)
    for problem in problems:
        print(f'not shown: {problem}', file=sys.stderr)
    print(f'written to {args.out}')


if __name__ == '__main__':
    reporting_errors(main)
