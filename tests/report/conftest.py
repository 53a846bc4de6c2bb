"""Small folders of results."""

import csv

import pytest
from report_rows import COMMON, CPU

from mmdet_shufflenetv2.benchmark.command import records_of
from mmdet_shufflenetv2.benchmark.command_line import COMMANDS


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'results'
    path.mkdir()
    return path


@pytest.fixture
def write(folder):
    """Write a command's measurements, columns not named left as they are."""

    def write(kind, *rows, name=None, where=CPU):
        path = folder / f'{name or kind + "_cpu"}.csv'
        records = records_of(COMMANDS[kind], path)
        blank = dict.fromkeys(records.columns[1:], '1')
        records.append([{**blank, **COMMON, **where, **row} for row in rows])
        return path

    return write


@pytest.fixture
def write_plain(folder):
    """Write a table that no command wrote."""

    def write(name, *rows):
        with (folder / name).open('w', newline='') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    return write
