"""Every operation of a forward pass, and to which module it belongs.

A dispatch mode sees what runs, the Python stack says who asked for it. The
stack is walked in one pass; the others only take times (`times`).
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from . import operations
from .operations import Work, shape_of, storage_of, tensors_of, work_of
from .times import HostLaps, Laps, TimedPass

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


@dataclass(frozen=True)
class Operation:
    """One executed operation.

    Attributes:
        name: as in ``'aten::convolution'``.
        kind: one of ``operations.KINDS`` or ``VIEW``.
        work: what it does.
        owner: path of the module in whose code it was called.
        call: which call of that module, from 1; shared heads have several.
        function: name of the Python function that called it.
        place: ``file.py:line`` of that call, outside of PyTorch and mmcv.
        inputs, outputs: shapes of the tensors.
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


class _Caller(NamedTuple):
    owner: str
    function: str
    place: str
    kind: str | None


class Recorder(TimedPass):
    """Notes down operations as they run.

    Args:
        model: its modules' paths become the owners' names.
        laps: how to take the times.

    Attributes:
        operations: those seen so far.
    """

    def __init__(self, model: nn.Module, laps: Laps):
        super().__init__(laps)
        self.operations: list[Operation] = []
        self._names = {id(m): name for name, m in model.named_modules()}
        self._calls: Counter[str] = Counter()
        # The operation that wrote a storage last.
        self._writer: dict[int, int] = {}

    def count_call(self, module: nn.Module, _) -> None:
        """Forward pre-hook."""
        # Losses and the like may be modules outside of the network.
        if id(module) in self._names:
            self._calls[self._names[id(module)]] += 1

    def _run(self, func, args, kwargs):
        inputs = tensors_of((args, kwargs))
        places = {storage_of(t) for t in inputs} - {0}
        sources = {self._writer.get(place) for place in places} - {None}
        out = self._laps(func, *args, **kwargs)
        work = work_of(func, args, kwargs, out)
        caller = self._caller(sys._getframe(2))
        name = func._schema.name
        kind = work.kind
        if caller.kind in (operations.POST, operations.POOLING):
            kind = caller.kind
        elif kind == operations.DATA and (
            caller.kind or _is_permuted_copy(name, inputs)
        ):
            kind = operations.SHUFFLE
        outputs = tensors_of(out)
        for tensor in outputs:
            self._writer[storage_of(tensor)] = len(self.operations)
        self.operations.append(
            Operation(
                name=name,
                kind=kind,
                work=work,
                owner=caller.owner,
                call=max(self._calls[caller.owner], 1),
                function=caller.function,
                place=caller.place,
                inputs=tuple(map(shape_of, inputs)),
                outputs=tuple(map(shape_of, outputs)),
                sources=tuple(sorted(sources)),
            )
        )
        return out

    def _caller(self, frame: FrameType | None) -> _Caller:
        """Who called, and the kind of work that the caller's name says."""
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
        return _Caller(owner or '', function, place, kind)


def _is_permuted_copy(name: str, inputs: list[Tensor]) -> bool:
    """Whether (N, groups, C, H, W) is written as (N, C, groups, H, W)."""
    if name not in ('aten::clone', 'aten::copy_', 'aten::_to_copy'):
        return False
    x = inputs[-1]
    return (
        x.layout == torch.strided
        and not x.is_nested
        and x.dim() == 5
        and min(x.shape[1:3]) > 1
        and x.stride(1) < x.stride(2)
        and x.shape[1:3].numel() * x.shape[3:].numel() * len(x) == x.numel()
    )


@contextmanager
def _counting_calls(recorder: Recorder):
    # Hooks of the modules themselves would keep PyTorch's transformer layers
    # off their fast path, which passes that are timed take.
    hook = register_module_forward_pre_hook(recorder.count_call)
    try:
        yield
    finally:
        hook.remove()


def record(
    model: nn.Module, run: Callable[[], object], laps: Laps | None = None
) -> list[Operation]:
    """The operations of one run, in their order.

    Args:
        model: whose modules are to be named.
        run: executes the model once, without gradients.
        laps: takes the time of each.
    """
    recorder = Recorder(model, laps or HostLaps())
    with torch.no_grad(), _counting_calls(recorder), recorder:
        run()
    return recorder.operations
