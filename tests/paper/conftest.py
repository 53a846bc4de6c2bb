"""Small folders of results."""

import csv

import pytest
from report_rows import COMMON, CPU

from mmdet_shufflenetv2.paper.results import read_results


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'results'
    path.mkdir()
    return path


@pytest.fixture
def write(folder):
    """Write measurements of a kind, later ones under earlier ones."""
    written = {}

    def write(kind, *rows, name=None, where=CPU):
        path = folder / f'{name or kind + "_cpu"}.csv'
        found = written.setdefault(path, [])
        found += [{**COMMON, **where, **row} for row in rows]
        write_plain(path.name, *found)
        return path

    def write_plain(name, *rows):
        columns = dict.fromkeys(column for row in rows for column in row)
        with (folder / name).open('w', newline='') as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write.plain = write_plain
    return write


@pytest.fixture
def results(folder):
    """Read the folder as it is now."""
    return lambda: read_results(folder)
