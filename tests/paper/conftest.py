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
    """Write a file of any rows, or of measurements of a kind on a device.

    Later rows come under earlier ones.
    """
    written = {}

    def write(name, *rows, where=CPU):
        if not name.endswith('.csv'):
            name = f'{name}_{where["device"]}.csv'
            rows = [{**COMMON, **where, **row} for row in rows]
        found = written.setdefault(name, [])
        found += rows
        columns = dict.fromkeys(column for row in found for column in row)
        with (folder / name).open('w', newline='') as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(found)

    return write


@pytest.fixture
def results(folder):
    """Read the folder as it is now."""
    return lambda: read_results(folder)
