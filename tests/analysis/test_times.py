import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis.roofline import Peaks, rising
from mmdet_shufflenetv2.analysis.times import (
    HostLaps,
    Times,
    time_operations,
)
from mmdet_shufflenetv2.measure.timing import Effort, Timing, host_stopwatch

EFFORT = Effort(min_runs=3, max_runs=3, seconds=1.0, warmup_seconds=1e-9)


class Clock:
    """Seconds that go by when the clock is looked at, or as told."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


class Slow(nn.Module):
    """Two operations; 3 ms go by before the second."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, x):
        x = x + 1
        self.clock.now += 0.003
        return x * 2


def test_laps_are_of_the_calls_alone():
    clock = Clock()
    laps = HostLaps(clock)

    def work(seconds):
        clock.now += seconds
        return seconds

    assert laps(work, 0.002) == 0.002
    clock.now += 5
    laps(work, seconds=0.004)
    assert laps.read_ms() == pytest.approx([2.0, 4.0])


def times_of(run, names, clock):
    return time_operations(
        run,
        names,
        [7.0] * len(names),
        EFFORT,
        host_stopwatch(clock),
        lambda: HostLaps(clock),
    )


def test_time_between_operations_is_nobodys():
    clock = Clock(step=0.001)
    network, x = Slow(clock), torch.ones(2)
    times = times_of(lambda: network(x), ['aten::add', 'aten::mul'], clock)
    # Each lap, and each undisturbed pass, has one step of the clock in it.
    assert times.operations == [pytest.approx([1.0] * 3)] * 2
    assert times.whole_ms.median == pytest.approx(1 + 3)
    assert times.strays == 0


def test_a_pass_with_other_operations_is_left_out():
    turns = iter(range(100))
    x = torch.ones(2)

    def run():
        # Whole and timed take turns, the first round is warm-up.
        return x.add(1) if next(turns) == 5 else x.mul(2)

    times = times_of(run, ['aten::mul'], Clock(step=0.001))
    assert times.strays == 1
    assert len(times.operations[0]) == 2
    assert times.repeats


def test_a_network_that_never_repeats_itself_has_the_recorded_times():
    x = torch.ones(2)
    times = times_of(lambda: x + 1, ['aten::mul'], Clock(step=0.001))
    assert not times.repeats
    assert times.operations == [[7.0]]
    assert times.strays == 3


def test_sums_are_taken_pass_by_pass():
    times = Times(
        Timing([10.0, 12.0, 50.0], 1, True),
        [[1.0, 2.0, 30.0], [4.0, 3.0, 5.0], [0.5, 0.5, 0.5]],
    )
    # Of 5, 5 and 35; the medians alone would be 2 and 4.
    assert times.sum_ms([0, 1]) == 5.0
    assert times.whole_ms.median == 12.0


PEAKS = Peaks(50.0, ((1_000, 100.0), (100_000, 50.0), (10_000_000, 20.0)))


def test_the_slower_of_computing_and_moving_is_the_floor():
    assert PEAKS.floor_ms(50_000_000, 1_000) == pytest.approx(1.0)
    assert PEAKS.floor_ms(1, 40_000_000) == pytest.approx(2.0)
    assert PEAKS.compute_ms(50_000_000) == pytest.approx(1.0)


def test_what_fits_a_cache_moves_as_fast_as_the_cache():
    assert PEAKS.gb_per_s(10) == 100.0
    assert PEAKS.gb_per_s(1_000) == 100.0
    assert PEAKS.gb_per_s(10**9) == 20.0
    assert PEAKS.memory_gb_per_s == 20.0


def test_rates_between_the_measured_sizes_lie_between_theirs():
    assert PEAKS.gb_per_s(10_000) == pytest.approx(75.0)
    assert PEAKS.gb_per_s(1_000_000) == pytest.approx(35.0)


def test_nothing_to_do_takes_no_time():
    assert PEAKS.floor_ms(0, 0) == 0


def test_a_small_copy_is_as_fast_as_any_larger_one():
    measured = [(1, 5.0), (2, 90.0), (3, 60.0), (4, 70.0)]
    assert rising(measured) == ((1, 90.0), (2, 90.0), (3, 70.0), (4, 70.0))


@pytest.mark.parametrize(
    'moved, flops, limit',
    [
        (4096, 0, 'memory'),
        (64, 4096, 'compute'),
        (64, 1, 'start'),
        (0, 0, ''),
    ],
)
def test_the_limit_of_an_operation(moved, flops, limit):
    # A thousand multiply-adds or bytes a millisecond.
    peaks = Peaks(1e-3, ((64, 1e-3), (4096, 1e-3)), start_ms=0.5)
    assert peaks.limit(flops, moved) == limit
