"""Regenerate tables and metadata from configs, networks and results/*.csv.

    python tools/update_readme.py

Generated are ``configs/metafile.yml`` and the tables of README.md and docs/
between ``<!-- table NAME: column, column -->`` and ``<!-- end -->``. An empty
cell means "not measured".
"""

import argparse
from pathlib import Path

import yaml

from ..errors import UserError
from ..paper.docs_tables import BLOCK, docs_tables, filled
from ..paper.model_index import model_index
from ..paper.results import read_results

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> None:
    for path, text in generated(ROOT, ROOT / 'results').items():
        if not path.exists() or path.read_text('utf-8') != text:
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
