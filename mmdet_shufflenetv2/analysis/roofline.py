"""What this machine can do at best: the roofline.

A layer needs at least the time its multiply-adds take at the rate of a
matrix product, and at least the time of copying as many bytes as it moves.
Copies are measured at many sizes, since what fits a cache moves faster: the
limit of a small layer is that of its cache.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..benchmark.timing import interleave, spread

_MATRIX_SIDES = (512, 1024, 2048)
# Bytes read and written by a copy, 64 KB to 256 MB.
_COPIED = tuple(2**power for power in range(16, 29, 2))


@dataclass(frozen=True)
class Peaks:
    """The best rates that were measured.

    Attributes:
        gflops_per_s: billions of multiply-adds per second.
        copies: ((bytes, GB/s), ...), bytes read and written, ascending.
    """

    gflops_per_s: float
    copies: tuple[tuple[int, float], ...]

    @property
    def memory_gb_per_s(self) -> float:
        """GB/s of the largest copy, which no cache holds."""
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
        return flops / self.gflops_per_s / 1e6

    def memory_ms(self, moved: int) -> float:
        """The least time of moving bytes."""
        return moved / self.gb_per_s(moved) / 1e6

    def floor_ms(self, flops: int, moved: int) -> float:
        """The least time of both together."""
        return max(self.compute_ms(flops), self.memory_ms(moved))


def _best_ms(function: Callable[[], object], repeats: int, device: str):
    times = interleave({'peak': function}, repeats, 2, device)['peak']
    # A peak is what the machine can do when nothing disturbs it.
    return spread(times).p10


def measure_peaks(
    device: str = 'cpu', progress: Callable[[], object] = lambda: None
) -> Peaks:
    """Measure a matrix product and copies in float32.

    Args:
        device: where.
        progress: called after each measurement, ``PEAK_STEPS`` times.
    """
    rates = []
    for side in _MATRIX_SIDES:
        a, b = torch.randn(2, side, side, device=device)
        out = torch.empty_like(a)
        best = _best_ms(lambda: torch.mm(a, b, out=out), 7, device)  # noqa: B023
        rates.append(side**3 / best / 1e6)
        progress()
    copies = []
    for moved in _COPIED:
        source = torch.randn(moved // 8, device=device)
        target = torch.empty_like(source)
        inner = max(1, min(64, 2**24 // moved))

        def copy(source=source, target=target, inner=inner):
            for _ in range(inner):
                target.copy_(source)

        best = _best_ms(copy, 7, device) / inner
        copies.append((moved, moved / best / 1e6))
        progress()
    return Peaks(max(rates), tuple(copies))


PEAK_STEPS = len(_MATRIX_SIDES) + len(_COPIED)
