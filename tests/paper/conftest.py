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
def write_plain(folder):
    """Write a file of any rows."""

    def write_plain(name, *rows):
        columns = dict.fromkeys(column for row in rows for column in row)
        with (folder / name).open('w', newline='') as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    return write_plain


@pytest.fixture
def write(write_plain):
    """Write measurements of a kind, later ones under earlier ones."""
    written = {}

    def write(kind, *rows, where=CPU):
        name = f'{kind}_{where["device"]}.csv'
        found = written.setdefault(name, [])
        found += [{**COMMON, **where, **row} for row in rows]
        write_plain(name, *found)

    return write


@pytest.fixture
def results(folder):
    """Read the folder as it is now."""
    return lambda: read_results(folder)
