import os
import time

import pytest
import torch

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure import benchmark
from mmdet_shufflenetv2.measure.benchmark import (
    NO_ROOM,
    OK,
    TRY,
    Benchmark,
    records_of,
)
from mmdet_shufflenetv2.measure.records import RecordsError
from mmdet_shufflenetv2.measure.setting import Setting, describe
from mmdet_shufflenetv2.measure.timing import QUICK

ONE, TWO = Setting(threads=1), Setting(threads=2)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    monkeypatch.setattr(os, 'getloadavg', lambda: (0.5, 0, 0))


class Lab:
    """Runs benchmarks, rereading the file each time."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def of(self, name, setting=ONE, result=1.0):
        def measure(time):
            self.seen.append((name, torch.get_num_threads()))
            if isinstance(result, BaseException):
                raise result
            return [{'ms': result}]

        return Benchmark({'name': name}, setting, measure)

    def run(self, *benchmarks, **options):
        records = records_of(('name', 'ms', 'warning'), self.path)
        rows, self.left = benchmark.run(benchmarks, records, QUICK, **options)
        return rows


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / 'r.csv')


def test_competitors_are_timed_in_turn_and_weights_seeded(lab):
    turns, numbers = [], []

    def measure(time):
        numbers.append(torch.rand(1).item())
        times = time({n: lambda n=n: turns.append(n) for n in 'ab'})
        return [{'name': n, 'ms': len(times[n].times_ms)} for n in 'ab']

    for name in 'xy':
        rows = lab.run(Benchmark({'name': name}, ONE, measure))
    assert turns[:4] == ['a', 'b', 'a', 'b']
    assert [row['name'] for row in rows] == ['a', 'b']
    assert numbers[0] == numbers[1]


def test_a_trial_counts_as_measured_only_for_another_trial(lab):
    for _ in range(2):
        (row,) = lab.run(lab.of('a'), is_try=True)
    assert row['warning'] == TRY
    assert len(lab.seen) == 1
    (row,) = lab.run(lab.of('a'))
    assert row['warning'] == ''
    assert len(lab.seen) == 2


def test_a_run_continues_where_another_stopped(lab, monkeypatch):
    lab.run(lab.of('a'))
    # A different commit or day is the same environment; threads are not.
    then = dict(commit='abc', date='2000-01-01', load=99.0)
    monkeypatch.setattr(
        benchmark, 'describe', lambda setting: {**describe(setting), **then}
    )
    rows = lab.run(lab.of('a'), lab.of('b'), lab.of('a'), lab.of('a', TWO))
    assert lab.seen == [('a', 1), ('b', 1), ('a', 2)]
    assert [row['name'] for row in rows] == ['a', 'b', 'a']
    before = lab.path.read_bytes()
    lab.run(lab.of('a'), remeasure=True)
    assert len(lab.seen) == 4
    assert lab.path.read_bytes().startswith(before)


def test_nothing_starts_after_the_deadline(lab):
    lab.run(lab.of('a'))
    late = dict(deadline=time.monotonic() - 1)
    rows = lab.run(lab.of('a'), lab.of('b'), lab.of('c'), **late)
    assert [row['name'] for row in rows] == ['a']
    assert lab.left == 2
    assert lab.seen == [('a', 1)]


@pytest.mark.parametrize(
    'error, status',
    [
        (RuntimeError('CUDA out of memory. Tried ...'), NO_ROOM),
        (ImportError('pytorchcv, pip install it'), 'not available: pytorchcv'),
        (RuntimeError('shapes differ\nlong'), 'failed: RuntimeError: shapes'),
        (AssertionError(), 'failed: AssertionError:  (test_benchmark.py, li'),
    ],
    ids=['cuda', 'import', 'runtime', 'assert'],
)
def test_a_failure_is_recorded_and_the_run_continues(lab, error, status):
    both = lab.of('big', result=error), lab.of('small')
    big, small = lab.run(*both)
    assert big['status'].startswith(status)
    assert big['ms'] == ''
    assert small['status'] == OK
    # There may be more memory, or another package, the next time.
    lab.run(*both)
    assert [name for name, _ in lab.seen] == ['big', 'small', 'big']


def test_a_lost_gpu_ends_the_run_with_earlier_rows_intact(lab, monkeypatch):
    lab.run(lab.of('a'))
    before = lab.path.read_bytes()
    error = RuntimeError('CUDA error: unspecified launch failure')
    monkeypatch.setattr(benchmark, '_responds', lambda device: False)
    monkeypatch.setattr(Setting, 'apply', lambda self: None)
    monkeypatch.setattr(Setting, 'stopwatch', lambda self: None)
    monkeypatch.setattr(benchmark, 'describe', lambda s: describe(ONE))
    gpu = Setting(device='cuda')
    with pytest.raises(UserError, match=r'while measuring b.*launch failure'):
        lab.run(lab.of('b', gpu, error), lab.of('c', gpu))
    assert lab.path.read_bytes() == before
    assert len(lab.seen) == 2


def test_an_unwritable_file_is_an_error_before_anything_is_measured(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.csv').mkdir()
    for path in tmp_path / 'file' / 'r.csv', tmp_path / 'folder.csv':
        lab = Lab(path)
        with pytest.raises(RecordsError, match='cannot be written'):
            lab.run(lab.of('a'))
        assert lab.seen == []


def test_a_busy_machine_is_noted_in_the_row(lab, monkeypatch):
    monkeypatch.setattr(os, 'getloadavg', lambda: (2.6, 0, 0))
    one, two = lab.run(lab.of('a'), lab.of('b', TWO))
    assert one['warning'] == 'busy machine: load 2.6'
    assert two['warning'] == ''
