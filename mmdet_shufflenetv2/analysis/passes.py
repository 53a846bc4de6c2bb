"""How long each operation of a forward pass takes.

Passes in which every operation is timed run in turn with passes left alone
(A B A B), so that what the machine does besides hits both alike, and the
operations' times can be held against the whole network's. Taking a time
costs nothing inside of the time taken: what lies between two operations,
Python's part and the recording's own, is in neither.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..benchmark.timing import Spread, interleave, spread

# GPU cycles, about 60 us, that the device waits in front of an operation.
_HEAD_START = 100_000


class HostStopwatch:
    """Times calls by a clock of the host.

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


class CudaStopwatch:
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

    def __init__(self, stopwatch: HostStopwatch | CudaStopwatch):
        super().__init__()
        self.names: list[str] = []
        self._stopwatch = stopwatch

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return self._stopwatch(func, *args, **(kwargs or {}))


@dataclass(frozen=True)
class Times:
    """Milliseconds of a network and of its operations.

    Attributes:
        whole: of an undisturbed pass, one per round.
        operations: of each operation (outer), one per pass that was used.
        strays: passes not used, since other operations ran in them.
    """

    whole: list[float]
    operations: list[list[float]]
    strays: int = 0

    @property
    def whole_ms(self) -> Spread:
        """The whole network's median and spread."""
        return spread(self.whole)

    def sum_ms(self, indices: list[int]) -> float:
        """The median, over passes, of some operations' time together."""
        passes = zip(*(self.operations[i] for i in indices), strict=True)
        return statistics.median(map(sum, passes))

    @property
    def unexplained_ms(self) -> float:
        """The whole network's time less that of all its operations."""
        everything = list(range(len(self.operations)))
        return self.whole_ms.median - self.sum_ms(everything)


def rounds_for(seconds: float, pass_ms: float) -> int:
    """How many rounds of two passes fit into a time, 5 to 50."""
    return max(5, min(50, int(1e3 * seconds / (2 * pass_ms))))


def time_operations(
    run: Callable[[], object],
    names: list[str],
    repeats: int,
    warmup: int = 2,
    device: str = 'cpu',
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Time a network's operations, and the network.

    Args:
        run: one forward pass; each must execute the same operations.
        names: of these operations, in their order.
        repeats: rounds of an undisturbed and a timed pass.
        warmup: rounds before them.
        device: where it runs.
        clock: seconds of the host.

    Raises:
        ValueError: no pass executed the operations of ``names``.
    """
    on_gpu = torch.device(device).type == 'cuda'
    passes: list[_TimedPass] = []
    samples: list[list[float]] = []

    def timed() -> None:
        stopwatch = CudaStopwatch() if on_gpu else HostStopwatch(clock)
        with _TimedPass(stopwatch) as timed_pass:
            run()
        passes.append(timed_pass)
        samples.append(stopwatch.read_ms())

    with torch.no_grad():
        whole = interleave(
            {'whole': run, 'timed': timed}, repeats, warmup, device, clock
        )['whole']
    used = [
        sample
        for each, sample in zip(passes, samples, strict=True)
        if each.names == names
    ][-repeats:]
    if not used:
        raise ValueError(
            'run: every pass must execute the same operations, and none of '
            f'{len(passes)} executed those recorded; the network depends on '
            'chance or on earlier passes'
        )
    per_operation = [list(each) for each in zip(*used, strict=True)]
    return Times(whole, per_operation, repeats - len(used))
