import time

import pytest
import torch
from fake_clock import FakeClock

from mmdet_shufflenetv2.measure.timing import (
    QUICK,
    WINDOW,
    Effort,
    Timing,
    cuda_stopwatch,
    host_stopwatch,
    interleave,
    ratio,
    spread,
    timed,
)


def play(effort, **seconds):
    """Time workers that take these times in turn; also return the turns."""
    clock = FakeClock()
    workers = {name: clock.worker(name, s) for name, s in seconds.items()}
    return interleave(workers, host_stopwatch(clock), effort), clock.turns


def test_competitors_take_turns_and_warm_up_is_dropped():
    effort = Effort(min_runs=2, max_runs=2, seconds=1, warmup_seconds=1)
    times, turns = play(effort, a=[9.0, 0.001, 0.002], b=[9.0, 0.003, 0.004])
    assert turns == ['a', 'b'] * 3
    assert times['a'].times_ms == pytest.approx([1.0, 2.0])
    assert times['b'].times_ms == pytest.approx([3.0, 4.0])


def test_warm_up_goes_on_until_all_times_are_steady():
    falling = [9.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    effort = Effort(min_runs=5, max_runs=5, warmup_seconds=1e6)
    times, _ = play(effort, steady=[1.0], falling=falling)
    runs = times['falling'].warmup_runs
    assert len(falling) <= runs <= len(falling) + 2 * WINDOW
    assert times['falling'].settled
    assert times['falling'].times_ms == pytest.approx([1000.0] * 5)


def test_warm_up_that_never_settles_ends_with_a_warning():
    times, _ = play(Effort(2, 2, 1, 20.0), a=[1.5**i for i in range(30)])
    assert times['a'].warmup_runs == 6  # 1 + 1.5 + ... + 1.5^5 > 20
    row = timed(times['a'], 'ratio', times['a'], times['a'])
    assert 'warm-up did not settle' in row['warning']


@pytest.mark.parametrize('seconds, runs', [(0.0, 3), (5.0, 5), (1e6, 8)])
def test_runs_stop_at_the_time_limit_within_their_own_limits(seconds, runs):
    effort = Effort(min_runs=3, max_runs=8, seconds=seconds, warmup_seconds=0)
    times, _ = play(effort, a=[1.0])
    assert len(times['a'].times_ms) == runs


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


def test_a_spread_has_median_p10_and_p90_and_a_ratio_is_of_medians():
    result = spread([float(i) for i in (10, 0, 5, 3, 8, 1, 2, 4, 6, 7, 9)])
    assert result == pytest.approx((5.0, 1.0, 9.0))
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    result = ratio([10.0, 20.0, 60.0], [5.0, 5.0, 6.0])
    assert result == pytest.approx((20 / 5, 2 + 0.2 * 2, 4 + 0.8 * 6))


@pytest.mark.parametrize('share, flagged', [(0.09, False), (0.12, True)])
def test_a_spread_wider_than_ten_percent_is_flagged(share, flagged):
    # p90 - p10 is 0.8 of the whole width of evenly spaced samples.
    wide = share / 0.8
    samples = [1 - wide / 2 + wide * i / 10 for i in range(11)]
    timing, steady = Timing(samples, 6, True), Timing([1.0] * 11, 6, True)
    assert bool(timed(timing, 'r', timing, steady)['warning']) == flagged
    assert bool(timed(timing, 'r', steady, timing)['warning']) == flagged
