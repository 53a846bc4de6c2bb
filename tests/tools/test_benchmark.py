import csv
import logging
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger

from mmdet_shufflenetv2.measure import networks
from mmdet_shufflenetv2.measure.ops import CASES
from mmdet_shufflenetv2.measure.records import SCHEMA


@pytest.fixture
def tool(root, monkeypatch, capsys):
    """Run ``tools/<name>.py`` in this process, where nothing is loaded anew.

    What it sets is as before behind it.
    """
    threads = torch.get_num_threads()
    logger = MMLogger.get_current_instance()
    level = logger.level

    def run(name, *arguments, code=0):
        path = str(root / 'tools' / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        monkeypatch.setenv('KINETO_LOG_LEVEL', '9')
        found = 0
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as stopped:
            found = stopped.code or 0
        printed = capsys.readouterr()
        assert found == code, printed.err[-4000:]
        return SimpleNamespace(stdout=printed.out, stderr=printed.err)

    yield run
    logger.setLevel(level or logging.INFO)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    networks._pool.cache_clear()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_everything_runs_small_and_goes_on_where_it_stopped(
    command, tool, tmp_path
):
    arguments = ('all', '--quick', '--out-dir', tmp_path)
    done = command('benchmark', *arguments)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        f'{name}_cpu.csv'
        for name in ('backbones', 'detectors', 'guidelines', 'ops', 'shuffle')
    ]
    for file in files:
        rows = rows_of(file)
        assert rows
        assert {row['status'] for row in rows} == {'ok'}
        assert all(float(row['median_ms']) > 0 for row in rows)
    assert 'G1 (equal channel width' in done.stdout
    assert 'end to end' in done.stdout
    before = [file.read_bytes() for file in files]
    again = tool('benchmark', *arguments)
    assert [file.read_bytes() for file in files] == before
    assert again.stdout.count('\n0 measured, ') == len(files)


def test_guidelines_stand_beside_the_papers_figures(tool, tmp_path):
    out = tmp_path / 'g.csv'
    arguments = ('G4', '--quick', '--threads', '1', '--out', out)
    done = tool('guidelines', *arguments)
    rows = rows_of(out)
    assert len(rows) == 12
    last = rows[-1]
    assert last['row'] == 'ReLU no, shortcut no'
    assert last['paper_per_s'] == '5.4'
    assert float(last['paper_time_ratio']) == round(5.0 / 5.4, 3)
    assert {row['threads'] for row in rows} == {'1'}
    assert 'G4 (element-wise' in done.stdout


def test_records_of_a_newer_version_are_refused_and_kept(tool, tmp_path):
    out = tmp_path / 'ops.csv'
    out.write_text(f'schema,op\n{SCHEMA + 1},x\n')
    done = tool('benchmark', 'ops', '--quick', '--out', out, code=2)
    assert done.stderr.startswith(f'error: {out} was written by a newer')
    assert out.read_text() == f'schema,op\n{SCHEMA + 1},x\n'


@pytest.mark.parametrize(
    'arguments, words',
    [
        (('detectors', 'configs/no.py'), 'config not found: configs/no.py'),
        (('shuffle', '--device', 'cuda:99'), 'device: cuda:99 was asked for'),
        (('backbones', '--network', 'resnet'), 'network must be a published'),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(
    tool, tmp_path, arguments, words
):
    out = ('--out', tmp_path / 'x.csv')
    done = tool('benchmark', *arguments, *out, code=2)
    assert done.stderr.startswith('error: ')
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_case_is_refused_with_the_known_ones(tool):
    done = tool('benchmark', 'ops', '--case', 'nonsense', code=2)
    assert all(case in done.stderr for case in CASES)


def test_help_has_an_example_of_every_command(tool):
    for name in 'backbones', 'detectors', 'shuffle', 'ops', 'all':
        done = tool('benchmark', name, '--help')
        assert f'python tools/benchmark.py {name} --' in done.stdout
    done = tool('guidelines', '--help')
    assert 'python tools/guidelines.py G1 G3' in done.stdout


def test_feature_reuse_leaves_a_picture_and_a_table(tool, tmp_path):
    done = tool('feature_reuse', '--out-dir', tmp_path)
    assert '116 (116), 58 (58)' in done.stdout
    assert (tmp_path / 'feature_reuse.png').stat().st_size > 10_000
    assert len(rows_of(tmp_path / 'feature_reuse.csv')) == 6 + 28 + 6
    bad = tmp_path / 'bad.pth'
    bad.write_bytes(b'no checkpoint')
    arguments = ('--densenet', bad, '--out-dir', tmp_path)
    done = tool('feature_reuse', *arguments, code=2)
    assert f'checkpoint {bad} cannot be read' in done.stderr
