"""How long each operation takes, and the least it could: the roofline.

Passes in which every operation is timed run in turn with passes left alone
(A B A B), so that what the machine does besides hits both alike, and the
operations' times can be held against the whole network's. Taking a time
costs nothing inside of the time taken: what lies between two operations,
Python's part and the recording's own, is in neither.

An operation needs at least the time its multiply-adds take at the rate of a
matrix product, and at least the time of copying as many bytes as it moves.
Copies are measured at many sizes, since what fits a cache moves faster: the
limit of a small layer is that of its cache.
"""

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..engine.run_config import UsageError
from ..measure.setting import Setting
from ..measure.timing import (
    Effort,
    Spread,
    Timing,
    cuda_stopwatch,
    host_stopwatch,
    interleave,
    spread,
)

# GPU cycles, about 60 us, that the device waits in front of an operation.
_HEAD_START = 100_000


class HostLaps:
    """Times calls, each by its own, by a clock of the host.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._seconds: list[float] = []

    def __call__(self, function: Callable, *args, **kwargs):
        start = self._clock()
        result = function(*args, **kwargs)
        self._seconds.append(self._clock() - start)
        return result

    def read_ms(self) -> list[float]:
        """Milliseconds of each call."""
        return [1e3 * each for each in self._seconds]


class CudaLaps:
    """Times calls by events on a GPU.

    The device is kept waiting while the host starts a call, so that the
    events enclose the call's kernels and not the host's delay. Where the
    host is the slower one, the sum of all calls is therefore less than the
    whole network's time: the difference is the device's idle time.
    """

    def __init__(self):
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __call__(self, function: Callable, *args, **kwargs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_HEAD_START)
        start.record()
        result = function(*args, **kwargs)
        end.record()
        self._events.append((start, end))
        return result

    def read_ms(self) -> list[float]:
        """Milliseconds of each call; waits for the device."""
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in self._events]


class _TimedPass(TorchDispatchMode):
    """Times every operation, and remembers its name."""

    def __init__(self, laps: HostLaps | CudaLaps):
        super().__init__()
        self.names: list[str] = []
        self._laps = laps

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return self._laps(func, *args, **(kwargs or {}))


@dataclass(frozen=True)
class Times:
    """Milliseconds of a network and of its operations.

    Attributes:
        whole: of undisturbed passes.
        operations: of each operation (outer), in each pass that was used.
        strays: timed passes not used, since other operations ran in them.
    """

    whole: Timing
    operations: list[list[float]]
    strays: int = 0

    @property
    def whole_ms(self) -> Spread:
        """The whole network's median and spread."""
        return spread(self.whole.times_ms)

    def sum_ms(self, indices: Sequence[int]) -> float:
        """The median, over passes, of some operations' time together."""
        passes = zip(*(self.operations[i] for i in indices), strict=True)
        return statistics.median(map(sum, passes))


class NotRepeatable(UsageError):
    """A network executes other operations in every pass."""


def time_operations(
    run: Callable[[], object],
    names: Sequence[str],
    effort: Effort,
    device: str = 'cpu',
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[], object] = lambda: None,
) -> Times:
    """Time a network's operations, and the network.

    Args:
        run: one forward pass; each must execute the same operations.
        names: of these operations, in their order.
        effort: how many rounds of an undisturbed and a timed pass.
        device: where it runs.
        clock: seconds of the host.
        progress: called after each round.

    Raises:
        NotRepeatable: no pass executed the operations of ``names``.
    """
    on_gpu = torch.device(device).type == 'cuda'
    watch = cuda_stopwatch(device) if on_gpu else host_stopwatch(clock)
    passes: list[tuple[list[str], list[float]]] = []

    def timed() -> None:
        laps = CudaLaps() if on_gpu else HostLaps(clock)
        with _TimedPass(laps) as timed_pass:
            run()
        passes.append((timed_pass.names, laps.read_ms()))
        progress()

    with torch.no_grad():
        timings = interleave({'whole': run, 'timed': timed}, watch, effort)
    kept = passes[-len(timings['timed'].times_ms) :]
    used = [laps for found, laps in kept if found == list(names)]
    if not used:
        raise NotRepeatable(
            'the network cannot be timed: every pass must execute the same '
            f'operations, and none of {len(kept)} executed those recorded; '
            'it depends on chance or on earlier passes'
        )
    per_operation = [list(each) for each in zip(*used, strict=True)]
    return Times(timings['whole'], per_operation, len(kept) - len(used))


EFFORT = Effort(min_runs=5, max_runs=20, seconds=0.5, warmup_seconds=0.2)
_MATRIX_SIDES = (512, 1024, 2048)
# Bytes read and written by a copy, 64 KB to 256 MB.
_COPIED = tuple(2**power for power in range(16, 29, 2))


@dataclass(frozen=True)
class Peaks:
    """The best rates that were measured.

    Attributes:
        gflops_per_s: billions of multiply-adds per second.
        copies: ((bytes, GB/s), ...), bytes read and written, ascending.
        start_ms: of a convolution with next to nothing to do.
    """

    gflops_per_s: float
    copies: tuple[tuple[int, float], ...]
    start_ms: float = 0.0

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

    def limit(self, flops: int, moved: int) -> str:
        """What the time would be bound by at best; nothing without work."""
        if not moved:
            return ''
        floor = self.floor_ms(flops, moved)
        if floor < self.start_ms:
            return 'start'
        return 'compute' if self.compute_ms(flops) == floor else 'memory'


def measure_peaks(
    setting: Setting,
    effort: Effort = EFFORT,
    progress: Callable[[], object] = lambda: None,
) -> Peaks:
    """Measure matrix products and copies.

    Args:
        setting: device and precision.
        effort: for each.
        progress: called after each measurement, ``PEAK_STEPS`` times.
    """
    watch = setting.stopwatch()

    def best_ms(function: Callable[[], object]) -> float:
        # A peak is what the machine can do when nothing disturbs it.
        return min(interleave({'': function}, watch, effort)[''].times_ms)

    place = dict(device=setting.device, dtype=setting.dtype)
    rates = []
    for side in _MATRIX_SIDES:
        a, b = torch.randn(2, side, side, **place)
        product = partial(torch.mm, a, b, out=torch.empty_like(a))
        rates.append(side**3 / best_ms(product) / 1e6)
        progress()
    copies = []
    for moved in _COPIED:
        source = torch.randn(moved // 2 // setting.dtype.itemsize, **place)
        target = torch.empty_like(source)
        turns = max(1, min(64, 2**24 // moved))

        def copy(source=source, target=target, turns=turns):
            for _ in range(turns):
                target.copy_(source)

        copies.append((moved, moved * turns / best_ms(copy) / 1e6))
        progress()
    x, weight = torch.randn(2, 1, 8, 1, 1, **place)
    tiny = partial(torch.conv2d, x, weight)
    start_ms = best_ms(tiny)
    progress()
    return Peaks(max(rates), rising(copies), start_ms)


def rising(copies: Sequence[tuple[int, float]]) -> tuple:
    """Give no copy a lower rate than a larger one reached.

    What a small copy falls short is the cost of starting it, which is none
    of the memory's.
    """
    best, result = 0.0, []
    for size, rate in reversed(copies):
        best = max(best, rate)
        result.append((size, best))
    return tuple(reversed(result))


PEAK_STEPS = len(_MATRIX_SIDES) + len(_COPIED) + 1
