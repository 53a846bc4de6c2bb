"""Every operation of a forward pass, and to which module it belongs.

A dispatch mode sees what runs, the Python stack who asked for it. The stack
is only walked in one pass that is not timed.
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

import mmcv
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from . import operations
from .operations import Work, shape_of, tensors_of, work_of

# What detectors do with their heads' outputs, by the names mmdet gives it.
_POST_PROCESSING = re.compile(
    'predict_by_feat|post_?process|add_pred_to_datasample|_get_predictions'
)
_SHUFFLES = re.compile('shuffle|^interleave$|^deal$|_interleave')
# Position-sensitive pooling is made of many smaller operations.
_ROI = re.compile('RoI(Align|Pool|Extract)')
# Not torchvision, whose folder's name begins alike.
_TORCH, _MMCV = (
    f'{Path(package.__file__).parent}{os.sep}' for package in (torch, mmcv)
)


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


class Caller(NamedTuple):
    """Who called an operation."""

    owner: str
    function: str
    place: str
    is_post: bool
    is_shuffle: bool
    is_pooling: bool


def _is_permuted_copy(name: str, inputs: list[Tensor]) -> bool:
    """Whether (N, groups, C, H, W) is written as (N, C, groups, H, W)."""
    if name not in ('aten::clone', 'aten::copy_', 'aten::_to_copy'):
        return False
    x = inputs[-1]
    return (
        x.dim() == 5
        and min(x.shape[1:3]) > 1
        and x.stride(1) < x.stride(2)
        and x.shape[1:3].numel() * x.shape[3:].numel() * len(x) == x.numel()
    )


class Recorder(TorchDispatchMode):
    """Notes down operations as they run.

    Args:
        model: its modules' paths become the owners' names.

    Attributes:
        operations: those seen so far.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.operations: list[Operation] = []
        self._names = {id(m): name for name, m in model.named_modules()}
        self._calls: Counter[str] = Counter()
        # Where a storage was written last; an address that is used again has
        # been written again.
        self._writer: dict[int, int] = {}

    def count_call(self, module: nn.Module, _) -> None:
        """Forward pre-hook."""
        # Losses and the like may be modules outside of the network.
        if id(module) in self._names:
            self._calls[self._names[id(module)]] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = tensors_of((args, kwargs))
        sources = self._sources(inputs)
        out = func(*args, **kwargs)
        work = work_of(func, args, kwargs, out)
        caller = self._caller(sys._getframe(1))
        name = func._schema.name
        kind = work.kind
        if caller.is_post:
            kind = operations.POST
        elif caller.is_pooling:
            kind = operations.POOLING
        elif kind == operations.DATA and (
            caller.is_shuffle or _is_permuted_copy(name, inputs)
        ):
            kind = operations.SHUFFLE
        for tensor in tensors_of(out):
            self._writer[tensor.untyped_storage().data_ptr()] = len(
                self.operations
            )
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
                outputs=tuple(map(shape_of, tensors_of(out))),
                sources=sources,
            )
        )
        return out

    def _sources(self, inputs: list[Tensor]) -> tuple[int, ...]:
        pointers = {t.untyped_storage().data_ptr() for t in inputs} - {0}
        writers = {self._writer.get(pointer) for pointer in pointers}
        return tuple(sorted(writers - {None}))

    def _caller(self, frame: FrameType | None) -> Caller:
        function = place = ''
        owner = None
        is_post = is_shuffle = is_pooling = False
        while frame is not None and frame.f_code is not record.__code__:
            code = frame.f_code
            in_torch = code.co_filename.startswith(_TORCH)
            if not in_torch and code.co_filename != __file__:
                # Of mmcv's building blocks who uses them is of interest.
                if not (place or code.co_filename.startswith(_MMCV)):
                    file = Path(code.co_filename).name
                    place = f'{file}:{frame.f_lineno}'
                # A comprehension is part of the function around it.
                if not (function or code.co_name.startswith('<')):
                    function = code.co_name
            module = frame.f_locals.get('self')
            if owner is None:
                is_shuffle |= bool(_SHUFFLES.search(code.co_name))
                owner = self._names.get(id(module))
                if owner is not None:
                    is_shuffle |= 'ChannelShuffle' in type(module).__name__
                    is_pooling = bool(_ROI.search(type(module).__name__))
            is_post |= bool(_POST_PROCESSING.search(code.co_name))
            frame = frame.f_back
        return Caller(
            owner or '', function, place, is_post, is_shuffle, is_pooling
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


def record(model: nn.Module, run: Callable[[], object]) -> list[Operation]:
    """The operations of one run, in their order.

    Args:
        model: whose modules are to be named.
        run: executes the model once, without gradients.
    """
    recorder = Recorder(model)
    with torch.no_grad(), _counting_calls(recorder), recorder:
        run()
    return recorder.operations
