"""The best that this machine can do, measured: the roofline.

An operation needs at least the time its multiply-adds take at the rate of a
matrix product, and at least the time of copying as many bytes as it moves.
Copies are measured at many sizes, since what fits a cache moves faster.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ..measure.timing import Effort, Stopwatch, interleave

EFFORT = Effort(min_runs=5, max_runs=20, seconds=0.5, warmup_seconds=0.2)
_MATRIX_SIDES = (512, 1024, 2048)
# Bytes read and written by a copy, 64 KB to 256 MB.
_COPIED = tuple(2**power for power in range(16, 29, 2))


@dataclass(frozen=True)
class Peaks:
    """The best rates that were measured."""

    # Billions of multiply-adds per second.
    gmacs_per_s: float
    # ((bytes read and written, GB/s), ...), ascending.
    copies: tuple[tuple[int, float], ...]

    @property
    def memory_gb_per_s(self) -> float:
        """GB/s of the largest copy, too large for any cache."""
        return self.copies[-1][1]

    def gb_per_s(self, moved: int) -> float:
        """GB/s of a copy of this many bytes, between those measured."""
        sizes = [size for size, _ in self.copies]
        place = bisect_left(sizes, moved)
        if place == 0 or place == len(sizes):
            return self.copies[min(place, len(sizes) - 1)][1]
        (low, slow), (high, fast) = self.copies[place - 1 : place + 1]
        share = math.log(moved / low) / math.log(high / low)
        return slow + share * (fast - slow)

    def compute_ms(self, flops: int) -> float:
        """The least time of multiply-adds."""
        return flops / self.gmacs_per_s / 1e6

    def floor_ms(self, flops: int, moved: int) -> float:
        """The least time of multiply-adds and of moving bytes."""
        memory_ms = moved / self.gb_per_s(moved) / 1e6
        return max(self.compute_ms(flops), memory_ms)

    def limit(self, flops: int, moved: int) -> str:
        """What the time would be bound by at best; nothing without work."""
        if not moved:
            return ''
        floor = self.floor_ms(flops, moved)
        return 'compute' if self.compute_ms(flops) == floor else 'memory'


def measure_peaks(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Peaks:
    """Measure matrix products and copies; ``watch`` times a call."""

    def best_ms(function: Callable[[], object]) -> float:
        # A peak is what the machine can do when nothing disturbs it.
        return min(interleave({'': function}, watch, effort)[''].times_ms)

    place = dict(device=device, dtype=dtype)
    rates = []
    for side in _MATRIX_SIDES:
        a, b = torch.randn(2, side, side, **place)
        product = partial(torch.mm, a, b, out=torch.empty_like(a))
        rates.append(side**3 / best_ms(product) / 1e6)
    copies, best = [], 0.0
    for moved in reversed(_COPIED):
        source = torch.randn(moved // 2 // dtype.itemsize, **place)
        target = torch.empty_like(source)
        turns = max(1, min(64, 2**24 // moved))

        def copy(source=source, target=target, turns=turns):
            for _ in range(turns):
                target.copy_(source)

        # Where a small copy is slower than a larger one, starting it takes
        # the time, not the memory.
        best = max(best, moved * turns / best_ms(copy) / 1e6)
        copies.append((moved, best))
    return Peaks(max(rates), tuple(reversed(copies)))
