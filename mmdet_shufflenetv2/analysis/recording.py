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
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from ..measure import timing
from ..measure.timing import Effort, Spread, Stopwatch, Timing
from . import operations
from .operations import Operation, operation_of, storage_of, tensors_of

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


class TimedPass(TorchDispatchMode):
    """Times each operation by its own, by a host's clock or a GPU's events.

    A GPU is kept waiting while the host starts an operation, so that the
    events enclose its kernels and not the host's delay. Where the host is the
    slower one, the sum of all operations is therefore less than the whole
    network's time: the difference is the device's idle time.

    Attributes:
        names: of the operations, in their order.
    """

    # GPU cycles, about 60 us.
    HEAD_START = 100_000

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, on_gpu=False
    ):
        super().__init__()
        self.names: list[str] = []
        self._on_gpu, self._laps = on_gpu, []
        self._now = _event if on_gpu else clock

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._on_gpu:
            torch.cuda._sleep(self.HEAD_START)
        start = self._now()
        out = func(*args, **kwargs)
        self._laps.append((start, self._now()))
        self.names.append(func._schema.name)
        self.note(func, args, kwargs, out)
        return out

    def note(self, func, args, kwargs, out) -> None:
        """What else to keep of an operation."""

    def read_ms(self) -> list[float]:
        """Milliseconds of each operation; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return [start.elapsed_time(end) for start, end in self._laps]
        return [1e3 * (end - start) for start, end in self._laps]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class Recorder(TimedPass):
    """Also notes whose the operations are, by the names of modules."""

    def __init__(self, model: nn.Module, *clock: object):
        super().__init__(*clock)
        self.operations: list[Operation] = []
        self._names = {id(m): name for name, m in model.named_modules()}
        self._calls: Counter[str] = Counter()
        # The operation that wrote a storage last.
        self._writer: dict[int, int] = {}

    def __enter__(self):
        # Hooks of the modules themselves would keep PyTorch's transformer
        # layers off their fast path, which passes that are timed take.
        self._hook = register_module_forward_pre_hook(self._count_call)
        return super().__enter__()

    def __exit__(self, *error):
        self._hook.remove()
        return super().__exit__(*error)

    def _count_call(self, module: nn.Module, _) -> None:
        # Losses and the like may be modules outside of the network.
        if id(module) in self._names:
            self._calls[self._names[id(module)]] += 1

    def note(self, func, args, kwargs, out) -> None:
        read = {storage_of(t) for t in tensors_of((args, kwargs))}
        sources = {self._writer[each] for each in read & self._writer.keys()}
        written = {storage_of(t) for t in tensors_of(out)} - {0}
        self._writer |= dict.fromkeys(written, len(self.operations))
        operation = operation_of(func, args, kwargs, out)
        owner, function, place, kind = self._caller()
        if kind == operations.SHUFFLE and operation.kind != operations.DATA:
            kind = ''
        self.operations.append(
            replace(
                operation,
                kind=kind or operation.kind,
                owner=owner,
                call=max(self._calls[owner], 1),
                function=function,
                place=place,
                sources=frozenset(sources),
            )
        )

    def _caller(self) -> tuple[str, str, str, str]:
        """Owner, function, place, and the kind of work that names say."""
        frame, function, place, owner, kind = sys._getframe(3), '', '', '', ''
        is_owned = False
        while frame is not None and frame.f_code is not record.__code__:
            code, file = frame.f_code, frame.f_code.co_filename
            if not file.startswith(_TORCH):
                # Of mmcv's building blocks who uses them is of interest.
                if not place and not _BUILDING_BLOCKS.search(file):
                    place = f'{Path(file).name}:{frame.f_lineno}'
                # A comprehension is part of the function around it.
                if not (function or code.co_name.startswith('<')):
                    function = code.co_name
            if not is_owned:
                module = frame.f_locals.get('self')
                is_owned = id(module) in self._names
                owner = self._names.get(id(module), '')
                class_name = type(module).__name__ if is_owned else ''
                if (
                    _SHUFFLES.search(code.co_name)
                    or 'ChannelShuffle' in class_name
                ):
                    kind = operations.SHUFFLE
                if _ROI.search(class_name):
                    kind = operations.POOLING
            if _POST_PROCESSING.search(code.co_name):
                kind = operations.POST
            frame = frame.f_back
        return owner, function, place, kind


def record(
    model: nn.Module, run: Callable[[], object], *clock: object
) -> Recorder:
    """Record one run by a clock as `TimedPass` takes it."""
    with torch.no_grad(), Recorder(model, *clock) as recorder:
        run()
    return recorder


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
    recorded: TimedPass,
    effort: Effort,
    watch: Stopwatch,
    *clock: object,
) -> Times:
    """Time a network, by ``watch``, and the operations that were recorded."""
    passes: list[TimedPass] = []

    def timed() -> None:
        with TimedPass(*clock) as timed_pass:
            run()
        passes.append(timed_pass)

    with torch.no_grad():
        timings = timing.interleave(
            {'whole': run, 'timed': timed}, watch, effort
        )
    kept = passes[-len(timings['timed'].times_ms) :]
    # Where values decide what is executed, other passes are left out.
    used = [each for each in kept if each.names == recorded.names]
    laps = [each.read_ms() for each in used or [recorded]]
    by_operation = [*map(list, zip(*laps, strict=True))]
    return Times(timings['whole'], by_operation, bool(used))
