"""Regenerate tables and metadata from configs, networks and results/*.csv.

    python tools/update_readme.py          rewrite the generated parts
    python tools/update_readme.py --check  exit 1 if anything is out of date

Generated are ``configs/metafile.yml`` and the tables of README.md and docs/
between ``<!-- table NAME: column, column -->`` and ``<!-- end -->``. An empty
cell means "not measured".
"""

import argparse
import sys
from pathlib import Path

import yaml

from ..errors import UserError
from ..paper.docs_tables import BLOCK, docs_tables, filled
from ..paper.model_index import model_index
from ..paper.results import read_results

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit 1 if anything is out of date',
    )


def run(args: argparse.Namespace) -> None:
    for path, text in generated(ROOT, ROOT / 'results').items():
        if path.exists() and path.read_text('utf-8') == text:
            continue
        if args.check:
            sys.exit(
                f'{path.relative_to(ROOT)} is out of date: run '
                'tools/update_readme.py'
            )
        path.write_text(text, 'utf-8')
        print(f'written: {path.relative_to(ROOT)}')


def generated(root: Path, folder: Path) -> dict[Path, str]:
    """Map each file with a generated part to its up-to-date text.

    Args:
        root: Root folder of a checkout.
        folder: Folder of the results.

    Raises:
        UserError: A results file has a problem.
    """
    results = read_results(folder)
    if results.problems:
        raise UserError('\n'.join(results.problems))
    tables = docs_tables(root, results)
    texts = {
        page: filled(text, tables)
        for page in (root / 'README.md', *sorted(root.glob('docs/*.md')))
        if BLOCK.search(text := page.read_text('utf-8'))
    }
    index = yaml.safe_dump(model_index(root, results), sort_keys=False)
    texts[root / 'configs' / 'metafile.yml'] = (
        f'# Written by tools/update_readme.py.\n{index}'
    )
    return texts
