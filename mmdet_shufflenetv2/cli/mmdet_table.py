"""Try mmdet's own models with this package, and write docs/mmdet.md.

    python -m mmdet_shufflenetv2 mmdet-table

Builds every model config in mmdet's wheel; the smallest model of each config
folder also trains one step on synthetic images and predicts. This takes about
an hour; an interrupted run continues where it stopped.
"""

import argparse

from ..compat.atomic_files import whole_file
from ..errors import UserError
from ..paper.mmdet_table import make_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'folders',
        nargs='*',
        metavar='FOLDER',
        help="only these folders of mmdet's configs, such as faster_rcnn",
    )
    parser.add_argument(
        '--out', help='page (default: docs/mmdet.md if no FOLDER is named)'
    )
    parser.add_argument(
        '--records',
        default='work_dirs/mmdet_table.csv',
        help='results so far; delete it to start over (default: %(default)s)',
    )


def run(args: argparse.Namespace) -> None:
    if args.folders and not args.out:
        raise UserError('FOLDER: needs --out FILE, a page of these folders')
    out = args.out or 'docs/mmdet.md'
    # Opened first: that it cannot be written is said before the hour.
    with whole_file(out, 'w', 'utf-8') as page:
        page.write(make_page(args.folders, args.records))
    print(out)
