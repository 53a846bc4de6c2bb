"""Timing on machines that are not quiet.

Competitors run in turn (A B A B ...), so that other load on the machine
affects all of them alike, and are compared by ratios of medians. The spread
shows how far to trust a result.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median, quantiles
from typing import NamedTuple

import torch

# CPU time sums over all threads. With one thread on a busy machine, it is
# what the wall clock would show on a quiet one.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
# Warn if p90 - p10 exceeds this fraction of the median.
WIDE = 0.1
# Warm-up ends when the median of the last `WINDOW` rounds and that of the
# `WINDOW` rounds before differ by at most this fraction.
WINDOW, STEADY = 3, 0.05

# Calls a function once and returns the milliseconds it took.
Stopwatch = Callable[[Callable[[], object]], float]


def host_stopwatch(clock: Callable[[], float]) -> Stopwatch:
    """Return a stopwatch for synchronous work, given a clock in seconds."""

    def elapsed_ms(function: Callable[[], object]) -> float:
        start = clock()
        function()
        return (clock() - start) * 1e3

    return elapsed_ms


def cuda_stopwatch(device: str) -> Stopwatch:
    """Return a stopwatch that times with CUDA events.

    The GPU is idle at the start. As in production, the host's launch time
    counts only where the GPU has to wait for it.
    """

    def elapsed_ms(function: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in 'ab')
        torch.cuda.synchronize(device)
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return elapsed_ms


class Effort(NamedTuple):
    """How long to measure.

    Attributes:
        min_runs, max_runs: limits on the number of kept rounds.
        seconds: time limit for kept rounds, once there are ``min_runs``.
        warmup_seconds: time limit for warm-up, which ends earlier once the
            times are steady.
    """

    min_runs: int = 10
    max_runs: int = 100
    seconds: float = 10.0
    warmup_seconds: float = 5.0


QUICK = Effort(min_runs=2, max_runs=3, seconds=0.5, warmup_seconds=0.5)


class Spread(NamedTuple):
    """Median and 10th and 90th percentile of some samples."""

    median: float
    p10: float
    p90: float

    @property
    def width(self) -> float:
        """p90 - p10, as a fraction of the median."""
        return (self.p90 - self.p10) / self.median


def spread(samples: Sequence[float]) -> Spread:
    """Return the median and percentiles of samples, with interpolation."""
    # `quantiles` needs at least two samples.
    samples = [*samples] * (2 if len(samples) == 1 else 1)
    p10, *_, p90 = quantiles(samples, n=10, method='inclusive')
    return Spread(median(samples), p10, p90)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times longer ``slow`` takes than ``fast``.

    Returns:
        the ratio of the medians, with percentiles of the per-round ratios.
    """
    rounds = spread([s / f for s, f in zip(slow, fast, strict=True)])
    return rounds._replace(median=median(slow) / median(fast))


class Timing(NamedTuple):
    """The times of one competitor.

    Attributes:
        times_ms: milliseconds of each kept round.
        warmup_runs: number of warm-up rounds.
        settled: whether warm-up ended because the times were steady.
    """

    times_ms: list[float]
    warmup_runs: int
    settled: bool

    @property
    def median_ms(self) -> float:
        """Median over the kept rounds."""
        return significant(median(self.times_ms))


def interleave(
    functions: Mapping[object, Callable[[], object]],
    watch: Stopwatch,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
) -> dict[object, Timing]:
    """Time functions in turn, after warming up until their times are steady.

    Time limits count measured time, including the slow first calls.

    Args:
        functions: the competitors by name. A `Process` (anything with
            ``elapsed_ms``) is timed by its own clock instead of ``watch``.
        watch: times one call.
        effort: how long to measure.

    Returns:
        the timing of each competitor by name.
    """
    watches = {
        name: getattr(function, 'elapsed_ms', partial(watch, function))
        for name, function in functions.items()
    }
    warm_up, kept = ({name: [] for name in watches} for _ in range(2))

    def seconds_of_round(times: dict[object, list[float]]) -> float:
        for name, elapsed_ms in watches.items():
            times[name].append(elapsed_ms())
        return sum(series[-1] for series in times.values()) / 1e3

    left, settled = effort.warmup_seconds, False
    while left > 0 and not settled:
        left -= seconds_of_round(warm_up)
        settled = all(map(_is_steady, warm_up.values()))
    left, runs = effort.seconds, 0
    while runs < effort.min_runs or (runs < effort.max_runs and left > 0):
        left -= seconds_of_round(kept)
        runs += 1
    return {
        name: Timing(times, len(warm_up[name]), settled)
        for name, times in kept.items()
    }


def _is_steady(times: Sequence[float]) -> bool:
    if len(times) < 2 * WINDOW:
        return False
    before, now = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
    return abs(now - before) <= STEADY * now


def timed_columns(name: str) -> tuple[str, ...]:
    """The columns of `timed`."""
    times = 'median_ms', 'p10_ms', 'p90_ms', 'runs', 'warmup_runs'
    return (*times, name, f'{name}_p10', f'{name}_p90', 'warning')


def timed(
    mine: Timing, name: str, slow: Timing | None, fast: Timing
) -> dict[str, object]:
    """Return times and a ratio of times as columns of a record.

    The warning names what varied by more than `WIDE` and says if the times
    were not steady when warm-up ended.

    Args:
        mine: the timing to report.
        name: name of the ratio's column.
        slow, fast: the ratio is how many times longer ``slow`` takes than
            ``fast``; it is empty without ``slow``.
    """
    both = slow or mine, fast
    factor = ratio(*(timing.times_ms for timing in both))
    widths = {
        'times': max(spread(timing.times_ms).width for timing in both),
        'ratio': factor.width,
    }
    warnings = [f'{k} spread {w:.0%}' for k, w in widths.items() if w > WIDE]
    if not all(timing.settled for timing in both):
        warnings.append('warm-up did not settle')
    values = (
        *map(significant, spread(mine.times_ms)),
        *(len(mine.times_ms), mine.warmup_runs),
        *(map(significant, factor) if slow else [''] * 3),
        ', '.join(warnings),
    )
    return dict(zip(timed_columns(name), values, strict=True))


def significant(value: float) -> float:
    """Round to four significant digits."""
    return float(f'{value:.4g}')
