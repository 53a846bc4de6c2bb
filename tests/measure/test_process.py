"""Competitors in separate processes."""

import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest
from workers import broken, dying, note, spin

from mmdet_shufflenetv2.measure.process import Process
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.timing import (
    Effort,
    host_stopwatch,
    interleave,
)


def test_processes_take_turns_and_are_timed_by_their_own_clock(tmp_path):
    path = tmp_path / 'turns'
    with Process(partial(note, path, 'a', 0.01), Setting()) as a:
        times = interleave(
            {'a': a, 'here': note(path, 'b', 0)},
            host_stopwatch(time.perf_counter),
            Effort(min_runs=3, max_runs=3, warmup_seconds=0),
        )
    turns = [line.split() for line in path.read_text().splitlines()]
    assert [word for word, _ in turns] == ['a', 'b'] * 3
    assert len({process for _, process in turns}) == 2
    assert min(times['a'].times_ms) >= 10


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='Linux')
def test_a_process_is_stopped_while_it_is_not_its_turn():
    with Process(spin, Setting()) as spinning:
        stat = Path(f'/proc/{spinning.pid}/stat')

        def spent():
            return sum(map(int, stat.read_text().split()[13:15]))

        spinning.elapsed_ms()
        before = spent()
        time.sleep(0.3)
        assert spent() - before <= 1


def test_an_exception_in_the_process_is_raised_here():
    with (
        pytest.raises(ImportError, match='no such runtime'),
        Process(broken, Setting()),
    ):
        pass
    with (
        Process(dying, Setting()) as process,
        pytest.raises(BrokenProcessPool, match='terminated abruptly'),
    ):
        process.elapsed_ms()
