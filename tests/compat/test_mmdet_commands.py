"""The commands about mmdet itself: its own tools, and the table of models."""

import json
import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mmdet_shufflenetv2.cli import mmdet
from mmdet_shufflenetv2.cli import mmdet_table as table
from mmdet_shufflenetv2.errors import UserError


def test_a_tool_of_mmdet_runs_with_the_stand_in(root):
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'mmdet_shufflenetv2', 'mmdet'),
            *('confusion_matrix', '--help'),
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'confusion_matrix.py [-h]' in done.stdout


def test_an_unknown_tool_is_told_with_those_there_are():
    parser = mmdet.argparse.ArgumentParser()
    mmdet.add_arguments(parser)
    with pytest.raises(UserError, match=r"expected .*train.*, got 'fly'"):
        mmdet.run(parser.parse_args(['fly', '--wings', '2']))


def test_results_are_kept_and_a_torn_line_costs_that_line(
    tmp_path, monkeypatch
):
    pool = ThreadPoolExecutor(1)
    monkeypatch.setattr(table, 'ProcessPoolExecutor', lambda *_, **__: pool)
    path = tmp_path / 'records.jsonl'
    row = dict(what='build', config='a/b.py', result=dict(build='yes'))
    lines = json.dumps(dict(row, versions=table.versions()))
    old = json.dumps(dict(row, config='a/c.py', versions='torch 1.0'))
    path.write_text(f'{lines}\n{old}\n{lines[:30]}')
    kept = {('build', 'a/b.py'): dict(build='yes')}
    assert table.read_records(path) == kept
    names = ['a/b.py', 'a/d.py']
    tried = table.try_all(
        'build', lambda name: dict(build='no model'), names, path
    )
    assert list(tried) == names
    kept['build', 'a/d.py'] = dict(build='no model')
    assert table.read_records(path) == kept


def test_the_page_counts_and_names_what_fails():
    built = {
        'a/large.py': dict(build='yes', params_m=9),
        'a/small.py': dict(build='yes', params_m=3),
        'b/x.py': dict(build='needs lap'),
        'b/schedule.py': dict(build='no model'),
    }
    records = {('build', config): result for config, result in built.items()}
    records['kind', 'a/small.py'] = dict(train='yes', predict='yes')
    page = table.page(records, list(built))
    assert '| a | 2 of 2 | - | small | yes | yes |' in page
    assert '| b | 0 of 1 | lap | - | not tried | not tried |' in page
    assert '- needs lap: b/x.py' in page
    assert 'of 3 model configs' in page
    assert 'Of 2 kinds (folders of configs) **1 train a step' in page


@pytest.fixture
def as_in_its_process():
    """What `mmdet_table` sets in its own process, and takes back here."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        table._start()
        yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def test_a_real_kind_builds_trains_and_predicts(tmp_path, as_in_its_process):
    out = tmp_path / 'page.md'
    args = table.argparse.Namespace(
        folders=['nope'], out=str(out), records=str(tmp_path / 'r.jsonl')
    )
    with pytest.raises(UserError, match=r'expected folders .*ssd.*got nope'):
        table.run(args)
    config = 'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'
    assert table.build_model(config)['build'] == 'yes'
    assert table.try_kind(config) == dict(train='yes', predict='yes')


@pytest.mark.parametrize(
    'error, expected',
    [
        (ImportError("No module named 'skimage'"), 'needs scikit-image'),
        (RuntimeError('lap is not installed'), 'needs lap'),
        (KeyError('overlap'), "KeyError: 'overlap'"),
    ],
)
def test_an_error_names_the_package_or_itself(error, expected):
    assert table._reason(error) == expected
