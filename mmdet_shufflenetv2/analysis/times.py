"""How long a network and each of its operations take.

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

from ..measure.timing import (
    Effort,
    Spread,
    Stopwatch,
    Timing,
    interleave,
    spread,
)


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

    # GPU cycles, about 60 us.
    HEAD_START = 100_000

    def __init__(self):
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __call__(self, function: Callable, *args, **kwargs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(self.HEAD_START)
        start.record()
        result = function(*args, **kwargs)
        end.record()
        self._events.append((start, end))
        return result

    def read_ms(self) -> list[float]:
        """Milliseconds of each call; waits for the device."""
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in self._events]


Laps = HostLaps | CudaLaps


class TimedPass(TorchDispatchMode):
    """Times every operation, and remembers its name.

    Args:
        laps: how to take the times.

    Attributes:
        names: of the operations so far.
    """

    def __init__(self, laps: Laps):
        super().__init__()
        self.names: list[str] = []
        self._laps = laps

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # There PyTorch hands over composed operations as a whole.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.names.append(func._schema.name)
        return self._run(func, args, kwargs)

    def _run(self, func, args, kwargs):
        return self._laps(func, *args, **kwargs)


@dataclass(frozen=True)
class Times:
    """Milliseconds of a network and of its operations.

    Attributes:
        whole: of undisturbed passes.
        operations: of each operation (outer), in each pass that was used.
        strays: timed passes not used, since other operations ran in them.
        repeats: whether any pass executed the operations that were recorded;
            if not, their times are those of the one pass that recorded them.
    """

    whole: Timing
    operations: list[list[float]]
    strays: int = 0
    repeats: bool = True

    @property
    def whole_ms(self) -> Spread:
        """The whole network's median and spread."""
        return spread(self.whole.times_ms)

    def sum_ms(self, indices: Sequence[int]) -> float:
        """The median, over passes, of some operations' time together."""
        passes = zip(*(self.operations[i] for i in indices), strict=True)
        return statistics.median(map(sum, passes))


def time_operations(
    run: Callable[[], object],
    names: Sequence[str],
    recorded_ms: Sequence[float],
    effort: Effort,
    watch: Stopwatch,
    make_laps: Callable[[], Laps] = HostLaps,
) -> Times:
    """Time a network's operations, and the network.

    Args:
        run: one forward pass.
        names: of the operations that were recorded, in their order.
        recorded_ms: what each took then.
        effort: how many rounds of an undisturbed and a timed pass.
        watch: times an undisturbed pass.
        make_laps: gives what times the operations of a pass.
    """
    passes: list[tuple[list[str], list[float]]] = []

    def timed() -> None:
        laps = make_laps()
        with TimedPass(laps) as timed_pass:
            run()
        passes.append((timed_pass.names, laps.read_ms()))

    with torch.no_grad():
        timings = interleave({'whole': run, 'timed': timed}, watch, effort)
    kept = passes[-len(timings['timed'].times_ms) :]
    used = [laps for found, laps in kept if found == list(names)]
    return Times(
        timings['whole'],
        [list(each) for each in zip(*used or [recorded_ms], strict=True)],
        len(kept) - len(used),
        bool(used),
    )
