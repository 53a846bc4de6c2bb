"""How long each operation of a forward pass takes.

Passes in which every operation is timed run in turn with passes left alone
(A B A B), so that what the machine does besides hits both alike, and the
operations' times can be held against the whole network's. Taking a time
costs nothing inside of the time taken: what lies between two operations,
Python's part and the recording's own, is in neither.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..benchmark.timing import (
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

    @property
    def unexplained_ms(self) -> float:
        """The whole network's time less that of all its operations."""
        everything = range(len(self.operations))
        return self.whole_ms.median - self.sum_ms(everything)


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
        ValueError: no pass executed the operations of ``names``.
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
        raise ValueError(
            'run: every pass must execute the same operations, and none of '
            f'{len(kept)} executed those recorded; the network depends on '
            'chance or on earlier passes'
        )
    per_operation = [list(each) for each in zip(*used, strict=True)]
    return Times(timings['whole'], per_operation, len(kept) - len(used))
