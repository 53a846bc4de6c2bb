import time

import pytest
import torch

from mmdet_shufflenetv2.measure import session
from mmdet_shufflenetv2.measure.environment import describe
from mmdet_shufflenetv2.measure.records import Records, RecordsError
from mmdet_shufflenetv2.measure.session import (
    NO_ROOM,
    OK,
    TRY,
    Case,
    DeviceLost,
    run,
)
from mmdet_shufflenetv2.measure.setting import Setting

ONE, TWO = Setting(threads=1), Setting(threads=2)


@pytest.fixture
def records(tmp_path):
    return Records(
        tmp_path / 'r.csv', ('name', 'ms', 'doubt', 'status', *describe(ONE))
    )


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


class Lab:
    """Cases that note when they are measured."""

    def __init__(self):
        self.seen = []

    def case(self, name, setting=ONE, result=1.0):
        def measure():
            self.seen.append((name, torch.get_num_threads()))
            if isinstance(result, BaseException):
                raise result
            return [{'ms': result}]

        return Case({'name': name}, setting, measure, name)


def test_a_try_does_not_count_as_measured_but_for_another_try(records):
    lab = Lab()
    for _ in range(2):
        tried = run([lab.case('a')], records, is_try=True, quiet=True)
    assert [row['doubt'] for row in tried.rows] == [TRY]
    assert len(lab.seen) == 1
    for _ in range(2):
        measured = run([lab.case('a')], records, quiet=True)
    assert [row['doubt'] for row in measured.rows] == ['']
    assert len(lab.seen) == 2
    assert len(run([lab.case('a')], records, is_try=True).rows) == 2


def test_what_is_asked_for_twice_is_measured_once(records):
    lab = Lab()
    outcome = run([lab.case('a'), lab.case('b'), lab.case('a')], records)
    assert [name for name, _ in lab.seen] == ['a', 'b']
    assert len(outcome.rows) == 2


def test_a_run_goes_on_where_another_stopped(records):
    lab = Lab()
    run([lab.case('a')], records, quiet=True)
    outcome = run(
        [lab.case('a'), lab.case('b')],
        Records(records.path, records.columns[1:]),
        quiet=True,
    )
    assert [name for name, _ in lab.seen] == ['a', 'b']
    assert (outcome.measured, outcome.found) == (1, 1)
    assert [row['name'] for row in outcome.rows] == ['a', 'b']


def test_another_environment_is_measured_and_threads_are_set(records):
    lab = Lab()
    for setting in ONE, TWO, ONE:
        run([lab.case('a', setting)], records, quiet=True)
    assert lab.seen == [('a', 1), ('a', 2)]
    assert [row['threads'] for row in records.rows] == ['1', '2']


def test_another_commit_or_day_is_the_same_environment(records, monkeypatch):
    lab = Lab()
    run([lab.case('a')], records, quiet=True)
    then = dict(describe(ONE), commit='abc', date='2000-01-01', load=99.0)
    monkeypatch.setattr(session, 'describe', lambda setting: then)
    run([lab.case('a')], records, quiet=True)
    assert len(lab.seen) == 1


def test_asked_for_again_it_is_measured_again_and_nothing_is_edited(records):
    lab = Lab()
    run([lab.case('a')], records, quiet=True)
    before = records.path.read_bytes()
    run([lab.case('a')], records, again=True, quiet=True)
    assert len(lab.seen) == 2
    assert records.path.read_bytes().startswith(before)


@pytest.mark.parametrize(
    'error, status',
    [
        (RuntimeError('CUDA out of memory. Tried ...'), NO_ROOM),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."),
            NO_ROOM,
        ),
        (MemoryError(), NO_ROOM),
        (ImportError('pytorchcv, pip install it'), 'not available: pytorchcv'),
        (RuntimeError('shapes differ\nlong'), 'failed: RuntimeError: shapes'),
        (AssertionError(), 'failed: AssertionError:  (test_session.py, line'),
        (KeyError('oops'), "failed: KeyError: 'oops' (test_session.py, line"),
    ],
    ids=['cuda', 'cpu', 'python', 'import', 'other', 'assert', 'key'],
)
def test_a_case_that_fails_is_reported_and_the_run_goes_on(
    records, error, status
):
    lab = Lab()
    cases = [lab.case('big', result=error), lab.case('small')]
    outcome = run(cases, records, quiet=True)
    assert [row['name'] for row in outcome.rows] == ['big', 'small']
    assert outcome.rows[0]['status'].startswith(status)
    assert outcome.rows[0]['ms'] == ''
    assert outcome.rows[1]['status'] == OK
    assert outcome.problems[0].startswith(f'big: {status}')
    # There may be more room, or a package more, the next time.
    again = run(cases, records, quiet=True)
    assert (again.measured, again.found) == (1, 1)


def test_a_lost_gpu_ends_the_run_with_earlier_rows_intact(
    records, monkeypatch
):
    lab = Lab()
    run([lab.case('a')], records, quiet=True)
    before = records.path.read_bytes()
    error = RuntimeError('CUDA error: unspecified launch failure')
    monkeypatch.setattr(session, '_answers', lambda device: False)
    monkeypatch.setattr(Setting, 'apply', lambda self: None)
    gpu = Setting(device='cuda')
    monkeypatch.setattr(session, 'describe', lambda s: describe(ONE))
    with pytest.raises(DeviceLost) as caught:
        run([lab.case('b', gpu, error), lab.case('c', gpu)], records)
    message = str(caught.value)
    assert 'while b was measured' in message
    assert 'The 1 rows' in message
    assert 'unspecified launch failure' in message
    assert str(records.path) in message
    assert records.path.read_bytes() == before
    assert [name for name, _ in lab.seen] == ['a', 'b']


def test_an_unwritable_file_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / 'file').touch()
    lab = Lab()
    for path in tmp_path / 'file' / 'r.csv', tmp_path:
        records = Records(tmp_path / 'r.csv', ('name',))
        records.path = path
        with pytest.raises(RecordsError, match='cannot be written'):
            run([lab.case('a')], records, quiet=True)
    assert lab.seen == []
    assert {p.name for p in tmp_path.iterdir()} == {'file'}


def test_nothing_begins_after_the_deadline(records):
    lab = Lab()
    outcome = run(
        [lab.case('a'), lab.case('b')],
        records,
        deadline=time.monotonic() - 1,
        quiet=True,
    )
    assert lab.seen == []
    assert outcome.left == ['a', 'b']


def test_the_bar_says_what_is_measured_and_the_time_left(records, capsys):
    lab = Lab()
    run([lab.case('first thing'), lab.case('second thing')], records)
    shown = capsys.readouterr().err
    assert 'first thing' in shown
    assert 'second thing' in shown
    assert '100%' in shown


def test_the_environment_of_a_row_is_that_of_its_case(records):
    lab = Lab()
    setting = Setting(threads=2, precision='bf16', layout='channels_last')
    run([lab.case('a', setting)], records, quiet=True)
    row = records.rows[0]
    wanted = dict(threads='2', precision='bf16', layout='channels_last')
    assert wanted.items() <= row.items()
