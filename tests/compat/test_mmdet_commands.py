"""The commands about mmdet itself: its own tools, and the table of models."""

import logging
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import run

from mmdet_shufflenetv2.cli import mmdet_table
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure.records import Records
from mmdet_shufflenetv2.paper import mmdet_table as table


def test_what_there_is_not_is_refused_with_what_there_is(tmp_path):
    assert ', train, ' in run('mmdet', 'fly', '--wings', 2, code=2)
    options = '--out', tmp_path / 'page.md'
    assert ', ssd, ' in run('mmdet_table', 'nope', *options, code=2)


def test_a_page_of_some_folders_replaces_only_a_file_that_is_named():
    assert 'needs --out FILE' in run('mmdet_table', 'ssd', code=2)


def test_a_page_that_cannot_be_written_is_named_before_anything_is_tried(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(table, 'try_all', None)
    (tmp_path / 'file').touch()
    options = dict(out=tmp_path / 'file' / 'x.md', records=tmp_path / 'r.csv')
    with pytest.raises(OSError, match='file'):
        mmdet_table.run(Namespace(folders=['ssd'], **options))


def test_results_are_kept_unless_versions_differ(tmp_path, monkeypatch):
    tried, threads = [], lambda *_, **__: ThreadPoolExecutor(1)
    monkeypatch.setattr(table, 'ProcessPoolExecutor', threads)
    path = tmp_path / 'records.csv'
    rows = [
        dict(versions=table.versions(), config='a/b.py', build='yes'),
        dict(versions='torch 1.0', config='a/c.py', build='yes'),
    ]
    Records(path, table.COLUMNS).append(rows)

    def build(name):
        tried.append(name)
        return dict(build=name)

    for _ in range(2):
        records = Records(path, table.COLUMNS)
        found = table.try_all('build', build, ['a/b.py', 'a/c.py'], records)
        assert {k: v['build'] for k, v in found.items()} == {
            'a/b.py': 'yes',
            'a/c.py': 'a/c.py',
        }
    assert tried == ['a/c.py']
    train = dict(train='yes', predict='no')
    found = table.try_all('train', lambda name: train, ['a/b.py'], records)
    assert dict(build='yes', **train).items() <= found['a/b.py'].items()
    assert 'train' not in found['a/c.py']


def test_the_page_counts_and_names_what_fails():
    records = {
        'a/large.py': dict(build='yes', params_m=9),
        'a/small.py': dict(
            build='yes', params_m=3, train='yes', predict='yes'
        ),
        'b/x.py': dict(build='needs lap'),
        'b/schedule.py': dict(build='no model'),
    }
    page = table.write_page(records)
    assert '| a | 2 of 2 | - | small | yes | yes |' in page
    assert '| b | 0 of 1 | lap | - | not tried | not tried |' in page
    assert '- needs lap: b/x.py' in page
    assert "of 3 model configs in mmdet's wheel" in page
    assert "3 model configs in mmdet's folders a, b **" in table.write_page(
        records, ['a', 'b']
    )
    assert 'Of 2 kinds (folders of configs) **1 train a step' in page


@pytest.mark.parametrize('size', [{}, dict(params_m='large')])
def test_a_size_that_is_no_number_is_named(size):
    with pytest.raises(UserError, match=r'a/x\.py: params_m: expected a num'):
        table.write_page({'a/x.py': dict(build='yes', **size)})


def test_a_real_kind_builds_trains_and_predicts(monkeypatch, tmp_path):
    # What it sets in a process of its own is taken back.
    monkeypatch.setattr(logging.root.manager, 'disable', 0)
    monkeypatch.chdir(tmp_path)
    table.prepare_process()
    config = 'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'
    assert table.build_model(config)['build'] == 'yes'
    assert table.try_model(config) == dict(train='yes', predict='yes')


@pytest.mark.parametrize(
    'error, expected',
    [
        (ImportError("No module named 'skimage'"), 'needs scikit-image'),
        (RuntimeError('lap is not installed'), 'needs lap'),
        (KeyError('overlap'), "KeyError: 'overlap'"),
    ],
)
def test_an_error_names_the_package_or_itself(error, expected):
    assert table.reason(error) == expected
