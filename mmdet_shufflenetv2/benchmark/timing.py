"""Timing on machines that are not quiet.

Competitors run in turn (A B A B ...) in one process, so that whatever else
the machine does hits all of them alike, and are compared by ratios of
medians. The spread says how much to believe.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

# What a clock counts. CPU time is of all threads together: on a busy machine,
# and with one thread, it is what a quiet machine's wall clock would show.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


class Spread(NamedTuple):
    """Median, and the values that 10 % and 90 % of the samples stay under."""

    median: float
    p10: float
    p90: float


def spread(samples: list[float]) -> Spread:
    """Return the median and spread of samples, interpolated linearly."""
    if not samples:
        raise ValueError('samples: at least one is needed, got none')
    ordered = sorted(samples)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return Spread(statistics.median(ordered), quantile(0.1), quantile(0.9))


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """Return how many times longer ``slow`` takes than ``fast``.

    Args:
        slow: times of one competitor, one per round.
        fast: those of the other, in the same rounds.

    Returns:
        the ratio of the medians, with the spread of the rounds' own ratios.
    """
    if len(slow) != len(fast):
        raise ValueError(
            'fast: as many samples as slow are needed, got '
            f'{len(fast)} and {len(slow)}'
        )
    rounds = spread([s / f for s, f in zip(slow, fast, strict=True)])
    of_medians = statistics.median(slow) / statistics.median(fast)
    return rounds._replace(median=of_medians)


def interleave(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 30,
    warmup: int = 3,
    device: str = 'cpu',
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn.

    Args:
        functions: the competitors by name.
        repeats: rounds that are kept.
        warmup: rounds before them that are not.
        device: what to wait for before each look at the clock.
        clock: seconds.

    Returns:
        for each name the milliseconds of each round.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            'repeats, warmup: at least 1 and 0 are allowed, got '
            f'{repeats} and {warmup}'
        )
    on_gpu = torch.device(device).type == 'cuda'
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            if on_gpu:
                torch.cuda.synchronize(device)
            start = clock()
            function()
            if on_gpu:
                torch.cuda.synchronize(device)
            elapsed_ms = (clock() - start) * 1e3
            if turn >= warmup:
                samples[name].append(elapsed_ms)
    return samples
