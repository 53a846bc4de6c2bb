"""Small folders of results."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from report_rows import COMMON, CPU

from mmdet_shufflenetv2.measure.command import records_of
from mmdet_shufflenetv2.measure.command_line import COMMANDS


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
        # Not every command has a batch.
        common = {k: v for k, v in COMMON.items() if k in blank}
        records.append([{**blank, **common, **where, **row} for row in rows])
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


@pytest.fixture(scope='session')
def with_runs(root, tmp_path_factory) -> Callable[..., Path]:
    """A folder of the committed results and some (config, data, mAP) more."""

    def make(*runs: tuple[str, str, float]) -> Path:
        text = (root / 'results' / 'trained.csv').read_text()
        columns = text.splitlines()[0].split(',')
        for config, data, mmap in runs:
            run = dict(config=config, data=data, mAP=str(mmap))
            text += ','.join(run.get(c, '') for c in columns) + '\n'
        folder = tmp_path_factory.mktemp('results')
        (folder / 'trained.csv').write_text(text)
        shutil.copy(root / 'results' / 'bccd_backbones.csv', folder)
        return folder

    return make
