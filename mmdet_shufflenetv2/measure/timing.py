"""Timing on machines that are not quiet.

Competitors run in turn (A B A B ...), so that whatever else the machine does
hits all of them alike, and are compared by ratios of medians. The spread says
how much to believe.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median, quantiles
from typing import NamedTuple

import torch

# What a clock counts. CPU time is of all threads together: on a busy machine,
# and with one thread, it is what a quiet machine's wall clock would show.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
# Share of the median by which p90 may exceed p10 without a warning.
WIDE = 0.1
# Warm-up is over when the medians of this many rounds and of as many before
# them differ by this share at most.
WINDOW, STEADY = 3, 0.05

# Milliseconds that one call takes.
Stopwatch = Callable[[Callable[[], object]], float]


def host_stopwatch(clock: Callable[[], float]) -> Stopwatch:
    """A stopwatch, by a clock of seconds, for work done on return."""

    def elapsed_ms(function: Callable[[], object]) -> float:
        start = clock()
        function()
        return (clock() - start) * 1e3

    return elapsed_ms


def cuda_stopwatch(device: str) -> Stopwatch:
    """A stopwatch of CUDA events, which the GPU itself takes the time of.

    The GPU is idle at the start. What the host needs to launch the work
    counts where the GPU has to wait for it, as it does in use.
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
    """How long to go on.

    Attributes:
        min_runs, max_runs: rounds that are kept, at least and at most.
        seconds: kept rounds stop after so long, but for ``min_runs``.
        warmup_seconds: warm-up stops after so long if the times have not
            become steady before.
    """

    min_runs: int = 10
    max_runs: int = 100
    seconds: float = 10.0
    warmup_seconds: float = 5.0


QUICK = Effort(min_runs=2, max_runs=3, seconds=0.5, warmup_seconds=0.5)


class Spread(NamedTuple):
    """Median, and the values that 10 % and 90 % of the samples stay under."""

    median: float
    p10: float
    p90: float

    @property
    def width(self) -> float:
        """From p10 to p90, as a share of the median."""
        return (self.p90 - self.p10) / self.median


def spread(samples: Sequence[float]) -> Spread:
    """Return the median and spread of samples, interpolated linearly."""
    # Twice, because `quantiles` does not take a single one.
    samples = [*samples] * (2 if len(samples) == 1 else 1)
    p10, *_, p90 = quantiles(samples, n=10, method='inclusive')
    return Spread(median(samples), p10, p90)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times longer ``slow`` takes than ``fast``, round by round.

    Returns:
        the ratio of the medians, with the spread of the rounds' own ratios.
    """
    rounds = spread([s / f for s, f in zip(slow, fast, strict=True)])
    return rounds._replace(median=median(slow) / median(fast))


class Timing(NamedTuple):
    """How a competitor did.

    Attributes:
        times_ms: milliseconds of each kept round.
        warmup_runs: rounds before them.
        settled: whether warm-up ended because the times were steady.
    """

    times_ms: list[float]
    warmup_runs: int
    settled: bool

    @property
    def median_ms(self) -> float:
        """Of the rounds."""
        return significant(median(self.times_ms))


def interleave(
    functions: Mapping[object, Callable[[], object]],
    watch: Stopwatch,
    effort: Effort = Effort(),  # noqa: B008  (immutable)
) -> dict[object, Timing]:
    """Time functions in turn, after a warm-up until their times are steady.

    Time is what ``watch`` says has passed, so a slow start of a function
    counts against ``effort.warmup_seconds`` too.

    Args:
        functions: the competitors by name; one with ``elapsed_ms`` is a
            `Process`, which is timed by its own clock.
        watch: how to time one call.
        effort: how long to go on.

    Returns:
        the timing of each name.
    """
    watches = {
        name: getattr(function, 'elapsed_ms', partial(watch, function))
        for name, function in functions.items()
    }
    warm_up, kept = ({name: [] for name in watches} for _ in range(2))

    def play_round(times: dict[object, list[float]]) -> float:
        for name, elapsed_ms in watches.items():
            times[name].append(elapsed_ms())
        return sum(series[-1] for series in times.values()) / 1e3

    left, settled = effort.warmup_seconds, False
    while left > 0 and not settled:
        left -= play_round(warm_up)
        settled = all(map(_is_steady, warm_up.values()))
    left, runs = effort.seconds, 0
    while runs < effort.min_runs or (runs < effort.max_runs and left > 0):
        left -= play_round(kept)
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
    """Times and a ratio of times, as columns of a record.

    Args:
        mine: whose times they are.
        name: of the ratio.
        slow, fast: it says how many times longer ``slow`` takes, nothing
            without one. The warning names what varied by more than `WIDE`,
            or was not steady when warm-up ended.
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
