"""Record every operation of a forward pass: its caller and its time.

A dispatch mode sees the operations, and the Python stack shows their callers.
One pass walks the stack. Further passes only take times, interleaved with
undisturbed passes (A B A B) so that other load affects both alike and the
operations' times can be compared with the whole network's. Time between two
operations, spent in Python or in recording, belongs to no operation.
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

# Functions of mmdet and torchvision that process the heads' outputs.
_POST_PROCESSING = re.compile(
    'predict_by_feat|post_?process|add_pred_to_datasample|_get_predictions|'
    'filter_proposals'
)
_SHUFFLES = re.compile('shuffle|^interleave$|^split_even_odd$|_interleave')
# Position-sensitive pooling consists of many smaller operations.
_ROI = re.compile('RoI(Align|Pool|Extract)')
# The separator excludes torchvision, whose path starts alike.
_TORCH = f'{Path(torch.__file__).parent}{os.sep}'


class TimedPass(TorchDispatchMode):
    """Times each operation with a host clock or with GPU events.

    The GPU sleeps while the host launches an operation, so that the events
    enclose its kernels but not the host's delay. If the host is the
    bottleneck, the operations add up to less than the network's time; the
    difference is idle time of the GPU.

    Attributes:
        names: names of the operations, in execution order.
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
        """Hook for subclasses, called after each operation."""

    def read_ms(self) -> list[float]:
        """Milliseconds of each operation; synchronizes with the GPU."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return [start.elapsed_time(end) for start, end in self._laps]
        return [1e3 * (end - start) for start, end in self._laps]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class Recorder(TimedPass):
    """Also records each operation with the module that called it."""

    def __init__(self, model: nn.Module, *clock: object):
        super().__init__(*clock)
        self.operations: list[Operation] = []
        self._names = {id(m): name for name, m in model.named_modules()}
        self._calls: Counter[str] = Counter()
        # Parameters of each storage that no operation has read yet.
        self._unread: Counter[int] = Counter()
        for parameter in model.parameters():
            self._unread[storage_of(parameter)] += parameter.numel()
        # Index of the last operation that wrote a storage.
        self._writer: dict[int, int] = {}

    def __enter__(self):
        # A global hook: hooks on modules would keep PyTorch's transformer
        # layers off the fast path that the timed passes take.
        self._hook = register_module_forward_pre_hook(self._count_call)
        return super().__enter__()

    def __exit__(self, *error):
        self._hook.remove()
        return super().__exit__(*error)

    def _count_call(self, module: nn.Module, _) -> None:
        # Modules outside the network, such as losses, have no name.
        if id(module) in self._names:
            self._calls[self._names[id(module)]] += 1

    def note(self, func, args, kwargs, out) -> None:
        read = {storage_of(t) for t in tensors_of((args, kwargs))}
        sources = {self._writer[each] for each in read & self._writer.keys()}
        written = {storage_of(t) for t in tensors_of(out)} - {0}
        self._writer |= dict.fromkeys(written, len(self.operations))
        operation = operation_of(func, args, kwargs, out)
        owner, function, kind = self._caller()
        if kind == operations.SHUFFLE and operation.kind != operations.DATA:
            kind = ''
        self.operations.append(
            replace(
                operation,
                kind=kind or operation.kind,
                owner=owner,
                call=max(self._calls[owner], 1),
                function=function,
                sources=frozenset(sources),
                params=sum(self._unread.pop(each, 0) for each in read - {0}),
            )
        )

    def _caller(self) -> tuple[str, str, str]:
        """Owner, function, and the kind of work that names imply."""
        frame, function, owner, kind = sys._getframe(3), '', '', ''
        is_owned = False
        while frame is not None and frame.f_code is not record.__code__:
            code = frame.f_code
            # Attribute comprehensions to the enclosing function.
            if not (
                function
                or code.co_name.startswith('<')
                or code.co_filename.startswith(_TORCH)
            ):
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
        return owner, function, kind


def record(
    model: nn.Module, run: Callable[[], object], *clock: object
) -> Recorder:
    """Record one run; ``clock`` is passed on to :class:`TimedPass`."""
    with torch.no_grad(), Recorder(model, *clock) as recorder:
        run()
    return recorder


@dataclass(frozen=True)
class Times:
    """Milliseconds of a network and of its operations.

    Attributes:
        whole: times of undisturbed passes.
        operations: for each operation, its time in each timed pass.
        repeats: whether any timed pass executed the recorded operations; if
            not, the times are those of the recorded pass.
    """

    whole: Timing
    operations: list[list[float]]
    repeats: bool = True

    @property
    def whole_ms(self) -> Spread:
        """The whole network's median and spread."""
        return timing.spread(self.whole.times_ms)

    def sum_ms(self, indices: Sequence[int]) -> float:
        """Median over passes of the summed time of some operations."""
        passes = zip(*(self.operations[i] for i in indices), strict=True)
        return statistics.median(map(sum, passes))


def time_operations(
    run: Callable[[], object],
    recorded: TimedPass,
    effort: Effort,
    watch: Stopwatch,
    *clock: object,
) -> Times:
    """Time a whole network with ``watch``, and its recorded operations."""
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
    # Drop passes that executed other operations, depending on values.
    used = [each for each in kept if each.names == recorded.names]
    laps = [each.read_ms() for each in used or [recorded]]
    by_operation = [*map(list, zip(*laps, strict=True))]
    return Times(timings['whole'], by_operation, bool(used))
