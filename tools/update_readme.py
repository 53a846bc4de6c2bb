"""Write the tables of README.md anew from results/*.csv.

    python tools/update_readme.py          rewrite README.md
    python tools/update_readme.py --check  exit 1 if it is out of date

A table stands between ``<!-- table NAME: column, column -->`` and
``<!-- end -->`` and shows those columns of ``results/NAME.csv``; an empty
cell says "not measured".
"""

import argparse
import csv
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)


def render(rows: list[dict], columns: list[str]) -> str:
    """Format rows as a Markdown table of the given columns."""
    lines = [columns, ['---'] * len(columns)]
    lines += [[row[c] or 'not measured' for c in columns] for row in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def update(text: str, results: Path) -> str:
    """Fill every table of a text from the CSV files of a folder.

    Raises:
        ValueError: If a table names a column its file does not have.
    """

    def fill(match: re.Match) -> str:
        start, name, wanted, end = match.groups()
        with (results / f'{name}.csv').open(newline='') as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        columns = [column.strip() for column in wanted.split(',')]
        absent = set(columns) - set(reader.fieldnames)
        if absent:
            raise ValueError(
                f'table {name}: results/{name}.csv has no column '
                f'{sorted(absent)}; it has {reader.fieldnames}'
            )
        return start + render(rows, columns) + end

    return BLOCK.sub(fill, text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    readme = ROOT / 'README.md'
    old = readme.read_text('utf-8')
    new = update(old, ROOT / 'results')
    if args.check and new != old:
        sys.exit('README.md is out of date: run tools/update_readme.py')
    readme.write_text(new, 'utf-8')


if __name__ == '__main__':
    main()
