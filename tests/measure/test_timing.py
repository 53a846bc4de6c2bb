import time

import pytest
import torch
from fake_clock import FakeClock

from mmdet_shufflenetv2.measure.timing import (
    QUICK,
    TIMED,
    WINDOW,
    Effort,
    Timing,
    compared,
    cuda_stopwatch,
    host_stopwatch,
    interleave,
    ratio,
    ratio_names,
    settled,
    spread,
)


@pytest.fixture
def clock():
    return FakeClock()


def test_competitors_take_turns_and_warm_up_is_dropped(clock):
    times = interleave(
        {
            'a': clock.worker('a', [9.0, 0.001, 0.002]),
            'b': clock.worker('b', [9.0, 0.003, 0.004]),
        },
        host_stopwatch(clock),
        Effort(min_runs=2, max_runs=2, seconds=1, warmup_seconds=1),
    )
    assert clock.turns == ['a', 'b'] * 3
    assert times['a'].times_ms == pytest.approx([1.0, 2.0])
    assert times['b'].times_ms == pytest.approx([3.0, 4.0])


def test_warm_up_goes_on_until_the_times_are_steady(clock):
    falling = [9.0, 7.0, 5.0, 4.0, 3.0, 2.0]
    steady = 2 * WINDOW
    times = interleave(
        {'a': clock.worker('a', [*falling, 1.0])},
        host_stopwatch(clock),
        Effort(min_runs=5, max_runs=5, warmup_seconds=1e6),
    )['a']
    # The two windows are the first ones without a falling time's median.
    assert len(falling) < times.warmup_runs <= len(falling) + steady
    assert times.settled
    assert times.times_ms == pytest.approx([1000.0] * 5)


def test_the_unsteadiest_competitor_decides_on_warm_up(clock):
    times = interleave(
        {
            'steady': clock.worker('steady', [1.0]),
            'falling': clock.worker('falling', [2.0**-i for i in range(12)]),
        },
        host_stopwatch(clock),
        Effort(min_runs=1, max_runs=1, warmup_seconds=1e6),
    )
    assert times['steady'].warmup_runs == times['falling'].warmup_runs > 12


def test_warm_up_that_never_settles_ends_and_is_told(clock):
    growing = clock.worker('a', [1.5**i for i in range(30)])
    times = interleave(
        {'a': growing}, host_stopwatch(clock), Effort(2, 2, 1, 20.0)
    )['a']
    assert not times.settled
    assert times.warmup_runs == 6  # 1 + 1.5 + ... + 1.5^5 > 20
    told = compared('ratio', times, times)['warning']
    assert 'warm-up did not settle' in told


@pytest.mark.parametrize(
    'seconds, runs', [(0.0, 3), (5.0, 5), (1e6, 8)], ids=str
)
def test_runs_stop_after_the_time_but_within_their_limits(
    clock, seconds, runs
):
    effort = Effort(min_runs=3, max_runs=8, seconds=seconds, warmup_seconds=0)
    times = interleave(
        {'a': clock.worker('a', [1.0])}, host_stopwatch(clock), effort
    )
    assert len(times['a'].times_ms) == runs


def test_settled_needs_two_windows_that_agree():
    assert not settled([[1.0] * (2 * WINDOW - 1)])
    assert settled([[1.0] * (2 * WINDOW)])
    assert settled([[5.0] + [1.0] * WINDOW + [1.04] * WINDOW])
    assert not settled([[1.0] * WINDOW + [1.1] * WINDOW])
    assert not settled([[1.0] * 6, [2.0] * 3 + [1.0] * 3])


def test_a_host_kernel_of_known_length_is_not_measured_shorter():
    watch = host_stopwatch(time.perf_counter)
    times = interleave({'sleep': lambda: time.sleep(0.005)}, watch, QUICK)
    assert min(times['sleep'].times_ms) >= 5.0


@pytest.mark.gpu
def test_gpu_kernels_of_known_length_have_their_ratio():
    cycles = 20_000_000
    times = interleave(
        {
            'long': lambda: torch.cuda._sleep(3 * cycles),
            'short': lambda: torch.cuda._sleep(cycles),
        },
        cuda_stopwatch('cuda'),
        Effort(min_runs=10, max_runs=10),
    )
    factor = ratio(times['long'].times_ms, times['short'].times_ms)
    assert factor.median == pytest.approx(3, rel=0.05)


def test_spread_is_median_and_percentiles():
    result = spread([float(i) for i in (10, 0, 5, 3, 8, 1, 2, 4, 6, 7, 9)])
    assert result == pytest.approx((5.0, 1.0, 9.0))
    assert result.width == pytest.approx(8 / 5)
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([1.0, 2.0]) == pytest.approx((1.5, 1.1, 1.9))


def test_ratio_is_of_medians_with_the_spread_of_rounds():
    slow, fast = [10.0, 20.0, 60.0], [5.0, 5.0, 6.0]
    result = ratio(slow, fast)
    assert result.median == pytest.approx(20 / 5)
    assert result.p10 == pytest.approx(2 + 0.2 * 2)
    assert result.p90 == pytest.approx(4 + 0.8 * 6)


def test_columns_are_those_announced():
    timing = Timing([1.23456, 1.2, 1.3], 7, True)
    columns = timing.columns()
    assert tuple(columns) == TIMED
    assert columns['median_ms'] == 1.235
    assert (columns['runs'], columns['warmup_runs']) == (3, 7)
    row = compared('times_faster', timing, timing)
    assert tuple(row) == ratio_names('times_faster')
    assert row == {
        'times_faster': 1.0,
        'times_faster_p10': 1.0,
        'times_faster_p90': 1.0,
        'warning': '',
    }


@pytest.mark.parametrize('share, flagged', [(0.09, False), (0.12, True)])
def test_a_spread_wider_than_ten_percent_is_flagged(share, flagged):
    # p90 - p10 is 0.8 of the whole width of evenly spaced samples.
    wide = share / 0.8
    samples = [1 - wide / 2 + wide * i / 10 for i in range(11)]
    timing = Timing(samples, 6, True)
    steady = Timing([1.0] * 11, 6, True)
    assert bool(compared('r', timing, steady)['warning']) == flagged
    assert bool(compared('r', steady, timing)['warning']) == flagged


def test_wrong_counts_are_refused(clock):
    with pytest.raises(ValueError, match='samples: '):
        spread([])
    with pytest.raises(ValueError, match='got 1 and 2'):
        ratio([1.0, 2.0], [1.0])
    for effort in Effort(min_runs=0), Effort(min_runs=3, max_runs=2):
        with pytest.raises(ValueError, match='min_runs <= max_runs'):
            interleave({}, host_stopwatch(clock), effort)
