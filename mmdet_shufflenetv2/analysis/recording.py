"""Every operation of a forward pass: whose it is, and how long it takes.

A dispatch mode sees what runs, the Python stack says who asked for it. The
stack is walked in one pass. Others only take times, in turn with passes left
alone (A B A B), so that what else the machine does hits both alike, and the
operations' times can be held against the whole network's. What lies between
two operations, Python's part and the recording's own, is in neither.
"""

import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from ..measure import timing
from ..measure.timing import Effort, Spread, Stopwatch, Timing
from . import operations
from .operations import Work, shape_of, storage_of, tensors_of, work_of

# What detectors do with their heads' outputs, by the names mmdet and
# torchvision give it.
_POST_PROCESSING = re.compile(
    'predict_by_feat|post_?process|add_pred_to_datasample|_get_predictions|'
    'filter_proposals'
)
_SHUFFLES = re.compile('shuffle|^interleave$|^split_even_odd$|_interleave')
# Position-sensitive pooling is made of many smaller operations.
_ROI = re.compile('RoI(Align|Pool|Extract)')
# Whose calls are the caller's; not torchvision, whose folder begins alike.
_TORCH = f'{Path(torch.__file__).parent}{os.sep}'
_BUILDING_BLOCKS = re.compile(r'[/\\]mmcv[/\\]')


class Laps:
    """Times calls, each by its own: by a host's clock, or a GPU's events.

    A GPU is kept waiting while the host starts a call, so that the events
    enclose the call's kernels and not the host's delay. Where the host is
    the slower one, the sum of all calls is therefore less than the whole
    network's time: the difference is the device's idle time.
    """

    # GPU cycles, about 60 us.
    HEAD_START = 100_000

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, on_gpu=False
    ):
        self._on_gpu, self._laps = on_gpu, []
        self._now = _event if on_gpu else clock

    def __call__(self, function: Callable, *args, **kwargs):
        if self._on_gpu:
            torch.cuda._sleep(self.HEAD_START)
        start = self._now()
        result = function(*args, **kwargs)
        self._laps.append((start, self._now()))
        return result

    def read_ms(self) -> list[float]:
        """Milliseconds of each call; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return [start.elapsed_time(end) for start, end in self._laps]
        return [1e3 * (end - start) for start, end in self._laps]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


@dataclass(frozen=True)
class Operation:
    """One executed operation.

    Attributes:
        kind: that of ``work``, unless the names of modules and functions say
            more.
        owner: path of the module in whose code it was called.
        call: which call of that module it was, from 1; shared heads have
            several.
        place: ``file.py:line`` of the call, outside of PyTorch and mmcv.
        sources: indices of the operations that wrote its inputs.
    """

    name: str
    kind: str
    work: Work
    owner: str
    call: int
    function: str
    place: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    sources: tuple[int, ...]


class TimedPass(TorchDispatchMode):
    """Times every operation by ``laps``, and notes its name in ``names``."""

    def __init__(self, laps: Laps):
        super().__init__()
        self.names: list[str] = []
        self._laps = laps

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.names.append(func._schema.name)
        out = self._laps(func, *args, **kwargs)
        self.note(func, args, kwargs, out)
        return out

    def note(self, func, args, kwargs, out) -> None:
        """What else to keep of an operation."""


class _Recorder(TimedPass):
    """Notes down operations as they run, by the names of modules."""

    def __init__(self, model: nn.Module, laps: Laps):
        super().__init__(laps)
        self.operations: list[Operation] = []
        self._names = {id(m): name for name, m in model.named_modules()}
        self._calls: Counter[str] = Counter()
        # The operation that wrote a storage last.
        self._writer: dict[int, int] = {}

    def count_call(self, module: nn.Module, _) -> None:
        # Losses and the like may be modules outside of the network.
        if id(module) in self._names:
            self._calls[self._names[id(module)]] += 1

    def note(self, func, args, kwargs, out) -> None:
        inputs, outputs = tensors_of((args, kwargs)), tensors_of(out)
        sources = {self._writer.get(storage_of(t)) for t in inputs} - {None}
        for storage in {storage_of(t) for t in outputs} - {0}:
            self._writer[storage] = len(self.operations)
        work = work_of(func, args, kwargs, out)
        owner, function, place, kind = self._caller(sys._getframe(2))
        if kind == operations.SHUFFLE and work.kind != operations.DATA:
            kind = None
        self.operations.append(
            Operation(
                name=func._schema.name,
                kind=kind or work.kind,
                work=work,
                owner=owner,
                call=max(self._calls[owner], 1),
                function=function,
                place=place,
                inputs=tuple(map(shape_of, inputs)),
                outputs=tuple(map(shape_of, outputs)),
                sources=tuple(sorted(sources)),
            )
        )

    def _caller(
        self, frame: FrameType | None
    ) -> tuple[str, str, str, str | None]:
        """Owner, function, place, and the kind of work that names say."""
        function = place = ''
        owner = kind = None
        while frame is not None and frame.f_code is not record.__code__:
            code = frame.f_code
            in_torch = code.co_filename.startswith(_TORCH)
            if not in_torch and code.co_filename != __file__:
                # Of mmcv's building blocks who uses them is of interest.
                if not place and not _BUILDING_BLOCKS.search(code.co_filename):
                    place = f'{Path(code.co_filename).name}:{frame.f_lineno}'
                # A comprehension is part of the function around it.
                if not (function or code.co_name.startswith('<')):
                    function = code.co_name
            if owner is None:
                module = frame.f_locals.get('self')
                owner = self._names.get(id(module))
                kinds = type(module).__name__ if owner is not None else ''
                if _SHUFFLES.search(code.co_name) or 'ChannelShuffle' in kinds:
                    kind = operations.SHUFFLE
                if _ROI.search(kinds):
                    kind = operations.POOLING
            if _POST_PROCESSING.search(code.co_name):
                kind = operations.POST
            frame = frame.f_back
        return owner or '', function, place, kind


def record(
    model: nn.Module, run: Callable[[], object], laps: Laps | None = None
) -> list[Operation]:
    """The operations of one run, in their order; ``laps`` times each."""
    recorder = _Recorder(model, laps or Laps())
    # Hooks of the modules themselves would keep PyTorch's transformer layers
    # off their fast path, which passes that are timed take.
    hook = register_module_forward_pre_hook(recorder.count_call)
    try:
        with torch.no_grad(), recorder:
            run()
    finally:
        hook.remove()
    return recorder.operations


@dataclass(frozen=True)
class Times:
    """Milliseconds of a network and of its operations.

    Attributes:
        whole: of passes left alone.
        operations: of each operation (outer), in each timed pass.
        repeats: whether any pass executed the operations that were recorded;
            if not, their times are those of the pass that recorded them.
    """

    whole: Timing
    operations: list[list[float]]
    repeats: bool = True

    @property
    def whole_ms(self) -> Spread:
        """The whole network's median and spread."""
        return timing.spread(self.whole.times_ms)

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
    make_laps: Callable[[], Laps] = Laps,
) -> Times:
    """Time a network's operations, and the network.

    ``names`` are those of the operations that were recorded, which took
    ``recorded_ms`` then; ``watch`` times a pass left alone.
    """
    passes: list[tuple[list[str], list[float]]] = []

    def timed() -> None:
        laps = make_laps()
        with TimedPass(laps) as timed_pass:
            run()
        passes.append((timed_pass.names, laps.read_ms()))

    with torch.no_grad():
        timings = timing.interleave(
            {'whole': run, 'timed': timed}, watch, effort
        )
    kept = passes[-len(timings['timed'].times_ms) :]
    # Where values decide what is executed, other passes are left out.
    used = [laps for found, laps in kept if found == list(names)]
    by_operation = zip(*used or [recorded_ms], strict=True)
    return Times(timings['whole'], [*map(list, by_operation)], bool(used))
