"""Measurements on disk: one CSV file per kind, one row per measurement."""

import csv
from pathlib import Path


def append_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Append rows to a CSV file, which is created if it is not there.

    Raises:
        ValueError: rows, or they and the file, differ in their columns.
    """
    if not rows:
        return
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(
                f'rows: all must have the columns {columns}, got {list(row)}'
            )
    exists = path.is_file() and path.stat().st_size > 0
    if exists:
        with path.open(newline='') as file:
            header = next(csv.reader(file))
        if header != columns:
            raise ValueError(
                f'{path}: its columns are {header}, the new rows have '
                f'{columns}; move the file away or write to another one'
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, columns, lineterminator='\n')
        if not exists:
            writer.writeheader()
        writer.writerows(rows)
