"""Write anew what is generated from configs, networks and results/*.csv.

    python tools/update_readme.py          rewrite it
    python tools/update_readme.py --check  exit 1 if anything is out of date

That is ``configs/metafile.yml`` and the tables of README.md,
docs/networks.md and docs/analyze.md. A table stands between ``<!-- table
NAME: column, column -->`` and ``<!-- end -->`` and shows those columns of
``results/NAME.csv`` or of what `computed` gives by that name; an empty cell
says "not measured".
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from mmdet_shufflenetv2.paper.claims import claim_rows
from mmdet_shufflenetv2.paper.detectors import bccd_rows, table7_rows
from mmdet_shufflenetv2.paper.figure2 import figure2_rows
from mmdet_shufflenetv2.paper.model_index import model_index
from mmdet_shufflenetv2.paper.networks import choice_rows, network_rows
from mmdet_shufflenetv2.paper.results import whole_results

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)
Rows = Sequence[Mapping[str, str]]


def render(rows: Rows, columns: list[str]) -> str:
    """Format rows as a Markdown table of the given columns."""
    lines = [columns, ['---'] * len(columns)]
    lines += [[row[c] or 'not measured' for c in columns] for row in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def update(
    text: str, results: Path, others: Mapping[str, Rows] | None = None
) -> str:
    """Fill every table of a text.

    Args:
        text: Markdown.
        results: Folder of the CSV files.
        others: Tables that are in no file, by name.

    Raises:
        ValueError: If a table names a column that its source does not have.
    """

    def fill(match: re.Match) -> str:
        start, name, wanted, end = match.groups()
        if others and name in others:
            source, rows = f'the computed table {name}', others[name]
            known = list(rows[0])
        else:
            source = f'results/{name}.csv'
            with (results / f'{name}.csv').open(newline='') as file:
                reader = csv.DictReader(file)
                rows, known = list(reader), reader.fieldnames
        columns = [column.strip() for column in wanted.split(',')]
        absent = set(columns) - set(known)
        if absent:
            raise ValueError(
                f'table {name}: {source} has no column {sorted(absent)}; '
                f'it has {known}'
            )
        return start + render(rows, columns) + end

    return BLOCK.sub(fill, text)


def computed(root: Path, results: Path) -> dict[str, Rows]:
    """The tables that no file in results/ has."""
    return {
        'table7': table7_rows(root, results),
        'bccd': bccd_rows(results),
        'networks': network_rows(),
        'choices': choice_rows(),
        'claims': claim_rows(whole_results(results)),
        'figure2': figure2_rows(results),
    }


def generated(root: Path, results: Path) -> dict[Path, str]:
    """Every file with a generated part, and what has to be in it."""
    tables = computed(root, results)
    docs = root / 'docs'
    pages = (root / 'README.md', docs / 'networks.md', docs / 'analyze.md')
    texts = {
        page: update(page.read_text('utf-8'), results, tables)
        for page in pages
    }
    texts[root / 'configs' / 'metafile.yml'] = (
        '# Written by tools/update_readme.py.\n'
        + yaml.safe_dump(model_index(root, results), sort_keys=False)
    )
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
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


if __name__ == '__main__':
    main()
