"""Measure the machine's roofline: the best rates that it can reach.

An operation takes at least as long as its multiply-adds take at the rate of a
matrix product, and at least as long as copying the bytes that it moves.
Copies are measured at many sizes, because data in a cache moves faster.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from ..measure.timing import Effort, Stopwatch, interleave

EFFORT = Effort(min_runs=5, max_runs=20, seconds=0.5, warmup_seconds=0.2)
_MATRIX_SIDES = (512, 1024, 2048)
# Bytes read and written by a copy, 64 KB to 256 MB.
_COPIED = tuple(2**power for power in range(16, 29, 2))


@dataclass(frozen=True)
class Peaks:
    """The best measured rates.

    Attributes:
        gmacs_per_s: billions of multiply-adds per second.
        copies: ((bytes read and written, GB/s), ...), ascending; the largest
            copy exceeds any cache.
    """

    gmacs_per_s: float
    copies: tuple[tuple[int, float], ...]

    @property
    def memory_gb_per_s(self) -> float:
        """GB/s of the largest copy."""
        return self.copies[-1][1]

    @property
    def cache_gb_per_s(self) -> float:
        """GB/s of the smallest copy."""
        return self.copies[0][1]

    def gb_per_s(self, moved: int) -> float:
        """GB/s of a copy of this many bytes, interpolated."""
        for (low, fast), (high, slow) in pairwise(self.copies):
            if low <= moved <= high:
                share = math.log(moved / low) / math.log(high / low)
                return fast + share * (slow - fast)
        is_small = moved <= self.copies[0][0]
        return self.cache_gb_per_s if is_small else self.memory_gb_per_s

    def floor_ms(self, flops: int, moved: int) -> float:
        """Lower bound of the time for multiply-adds and bytes moved."""
        memory_ms = moved / self.gb_per_s(moved) / 1e6
        return max(flops / self.gmacs_per_s / 1e6, memory_ms)

    def limit(self, flops: int, moved: int) -> str:
        """What bounds the time, 'memory' or 'compute'; '' without work."""
        if not moved:
            return ''
        is_memory = self.floor_ms(0, moved) > self.floor_ms(flops, 0)
        return 'memory' if is_memory else 'compute'


def measure_peaks(
    device: torch.device,
    dtype: torch.dtype,
    watch: Stopwatch,
    effort: Effort = EFFORT,
) -> Peaks:
    """Measure the rates of matrix products and copies with ``watch``."""

    def best_ms(function: Callable[[], object]) -> float:
        # The minimum is the undisturbed time.
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

        # If a small copy is slower than a larger one, launching it dominates,
        # not the memory.
        best = max(best, moved * turns / best_ms(copy) / 1e6)
        copies.append((moved, best))
    return Peaks(max(rates), tuple(reversed(copies)))
