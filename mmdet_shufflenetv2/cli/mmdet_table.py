"""Try mmdet's own models with this package, and write docs/mmdet.md.

Every model config of mmdet's wheel is built; the smallest model of each
folder of configs trains a step on synthetic images and predicts. That takes
about an hour; a run goes on where an earlier one stopped.
"""

import argparse
from pathlib import Path

from ..compat import mmdet_table as table
from ..compat.atomic_files import whole_file

COMMAND = 'python -m mmdet_shufflenetv2 mmdet-table'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'folders',
        nargs='*',
        metavar='FOLDER',
        help="only these folders of mmdet's configs, such as faster_rcnn",
    )
    parser.add_argument(
        '--out', default='docs/mmdet.md', help='page (default: %(default)s)'
    )
    parser.add_argument(
        '--records',
        default='work_dirs/mmdet_table.jsonl',
        help='results so far; delete it to begin anew (default: %(default)s)',
    )


def run(args: argparse.Namespace) -> None:
    from rich.progress import track

    from ..errors import UserError

    configs = table.model_configs(table.config_root())
    folders = {config.partition('/')[0] for config in configs}
    unknown = sorted(set(args.folders) - folders)
    if unknown:
        raise UserError(
            f"FOLDER: expected folders of mmdet's configs "
            f'({", ".join(sorted(folders))}), got {", ".join(unknown)}'
        )
    if args.folders:
        configs = [c for c in configs if c.partition('/')[0] in args.folders]
    records = table.Records(Path(args.records))

    def try_all(what, attempt, names, title) -> None:
        bar = iter(track(range(len(names)), title))
        next(bar, None)
        table.try_all(what, attempt, names, records, lambda: next(bar, None))

    try_all('build', table.build_model, configs, 'build models')
    chosen = table.representatives(records, configs)
    names = [config for config in chosen.values() if config]
    try_all('kind', table.try_kind, names, 'train and predict')
    with whole_file(args.out, 'w', 'utf-8') as file:
        file.write(table.page(records, configs, COMMAND))
    print(args.out)
