"""Follows which pixels everything in a forward pass depends on.

Maps are followed by fields, which costs next to nothing. Where a network
makes something else of a map, such as windows, tokens or a vector, every
element is followed by its box of pixels. What cannot be followed is said to
be unknown.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..operations import tensors_of
from .boxes import as_field, is_uniform, see_all
from .calls import Call
from .fields import WINDOWS, Field, joined, per_side, whole
from .memory import Seen, SeenMemory
from .rules import (
    ELEMENTWISE,
    MIXING,
    REDUCTIONS,
    RULES,
    STATISTICS,
    elementwise,
    reduced_dims,
)

# What was in their first argument is lost.
_OVERWRITING = ('aten::copy_', 'aten::fill_', 'aten::zero_')
# Only the shape of their first argument matters.
_CONSTANT = re.compile('_like$|^aten::new_')
# Where these look follows from values.
_ANYWHERE = ('torchvision::deform_conv2d', 'aten::grid_sampler_2d')


class Following(TorchDispatchMode):
    """Keeps account of what depends on which pixels.

    Args:
        image: (1, 3, H, W), which everything begins with.

    Attributes:
        memory: the account.
    """

    def __init__(self, image: Tensor):
        super().__init__()
        self.memory = SeenMemory(image)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = tensors_of((args, kwargs))
        if func._schema.name in _OVERWRITING:
            inputs = inputs[1:]
        read = [(t, self.memory.read(t)) for t in inputs]
        seen = [(tensor, s) for tensor, s in read if s is not None]
        out = func(*args, **kwargs)
        outputs = tensors_of(out)
        if _only_views(func) or (
            not func._schema.is_mutable and _share_memory(outputs, inputs)
        ):
            return out
        results = [None] * len(outputs)
        if seen and outputs and not _CONSTANT.search(func._schema.name):
            call = Call(func, args, kwargs, outputs, {})
            results = self._after(call, seen)
        for tensor, result in zip(outputs, results, strict=True):
            if result is None:
                self.memory.forget(tensor)
            else:
                self.memory.write(tensor, result)
        return out

    def _after(
        self, call: Call, seen: Sequence[tuple[Tensor, Seen]]
    ) -> list[Seen | None]:
        name = call.func._schema.name
        field = joined([s.field for _, s in seen])
        local = [(tensor, s) for tensor, s in seen if s.is_local]
        found = field
        if local and not field.unknown:
            found = None
            if all(s.boxes is None for _, s in local):
                found = _after_maps(call, local, field)
        if found is not None:
            return [Seen(found)] * len(call.outputs)
        flags = replace(field, size=None, stride=None)
        if name in _ANYWHERE:
            anywhere = joined([flags, whole(_short(name))])
            return [Seen(anywhere)] * len(call.outputs)
        boxes = {id(tensor): self.memory.boxes(tensor) for tensor, _ in local}
        return self._after_boxes(replace(call, boxes=boxes), flags)

    def _after_boxes(self, call: Call, flags: Field) -> list[Seen | None]:
        name, count = call.func._schema.name, len(call.outputs)
        field = self._after_window(call, flags)
        if field is not None:
            return [Seen(field)] * count
        if name in STATISTICS:
            first = self._after_statistics(call, flags)
            return [first, *[None] * (count - 1)]
        rule = RULES.get(name)
        if rule is None and torch.Tag.pointwise in call.func.tags:
            rule = elementwise
        found = rule(call) if rule else None
        if found is None:
            reason = f'{_short(name)} cannot be followed'
            return [Seen(replace(flags, unknown=reason))] * count
        results = [Seen(flags, boxes) for boxes in found]
        if name not in MIXING:
            return results
        everything = Seen(joined([flags, whole(_short(name))]))
        return [
            everything
            if self._has_mixed([*call.boxes.values()], result.boxes)
            else result
            for result in results
        ]

    def _after_window(self, call: Call, flags: Field) -> Field | None:
        """After a window over what has become a map again."""
        window = WINDOWS.get(call.func._schema.name)
        boxes = call.boxes.get(id(call.args[0])) if window else None
        if boxes is None or boxes.dim() != 5:
            return None
        field = as_field(boxes, self.memory.image_size)
        if field is None or _is_everything(call):
            return None
        return joined([flags, field]).through(*window(call.args, call.outputs))

    def _after_statistics(self, call: Call, flags: Field) -> Seen:
        name = call.func._schema.name
        own, statistics = call.of(call.args[0]), STATISTICS[name](call)
        if self._has_mixed([own], statistics):
            return Seen(joined([flags, whole(_short(name))]), own)
        return Seen(flags, torch.maximum(own, statistics))

    def _has_mixed(self, before: Sequence[Tensor], after: Tensor) -> bool:
        """Whether all see the whole image, which was not so before.

        In a deep map every position's own window may be larger than the
        image; then they must have become alike.
        """
        size = self.memory.image_size
        if not see_all(after, size):
            return False
        if not all(see_all(boxes, size) for boxes in before):
            return True
        return is_uniform(after) and not all(map(is_uniform, before))


def _after_maps(
    call: Call, local: Sequence[tuple[Tensor, Seen]], field: Field
) -> Field | None:
    """What an operation on maps makes of fields; None if no field."""
    name, first = call.func._schema.name, call.outputs[0]
    maps = [tensor for tensor, _ in local]
    everything = joined([field, whole(_short(name))])
    if name in WINDOWS and maps[0] is call.args[0]:
        window = WINDOWS[name](call.args, call.outputs)
        if _is_everything(call):
            return replace(everything, size=None, stride=None)
        if window is None:
            return None
        # Offsets and kernels that are made from the image are not slid over.
        own, *others = [seen.field for _, seen in local]
        flags = everything if name in _ANYWHERE else field
        flags = replace(flags, size=None, stride=None)
        return joined([own.through(*window), *others, flags])
    if name in _PADDING:
        return field
    dims = _dims(call)
    if dims is None or any(m.dim() < 3 for m in maps):
        return None
    count = maps[0].dim() if name not in _JOINING else first.dim()
    place = {count - 2, count - 1}
    if place <= dims and name in REDUCTIONS:
        return replace(everything, size=None, stride=None)
    if place <= dims and name not in _JOINING:
        return everything
    is_kept = all(m.shape[-2:] == first.shape[-2:] for m in maps)
    return None if place & dims or not is_kept else field


_JOINING = ('aten::cat', 'aten::stack')
# Edges are continued, as a convolution's own padding does.
_PADDING = ('aten::reflection_pad2d', 'aten::replication_pad2d')


def _dims(call: Call) -> set[int] | None:
    """The dimensions that an operation goes over; None if not known."""
    name, func = call.func._schema.name, call.func
    if name in _JOINING:
        return {call.argument('dim', 0) % call.outputs[0].dim()}
    count = call.args[0].dim() if isinstance(call.args[0], Tensor) else 0
    if name == 'aten::native_batch_norm' and call.argument('training'):
        return {*range(count)} - {1}
    if torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
        return set()
    if name in REDUCTIONS:
        return {*reduced_dims(call)}
    if name == 'aten::glu':
        return {call.argument('dim', -1) % count}
    if name == 'aten::native_group_norm':
        return {*range(1, count)}
    if name in ('aten::native_layer_norm', 'aten::_fused_rms_norm'):
        over = len(call.argument('normalized_shape'))
        return {*range(count - over, count)}
    if name in STATISTICS:
        return {call.argument('dim') % count}
    return None


def _is_everything(call: Call) -> bool:
    """Whether a map is pooled to one position, all of it."""
    name = call.func._schema.name
    if 'pool' not in name or call.outputs[0].shape[-2:].numel() != 1:
        return False
    kernel = call.argument('kernel_size')
    if kernel is None:
        return 'adaptive' in name
    sides = zip(per_side(kernel), call.args[0].shape[-2:], strict=True)
    return all(side >= whole for side, whole in sides)


def _short(name: str) -> str:
    bare = name.partition('::')[2].lstrip('_')
    # Which of PyTorch's kernels it is says nothing here.
    return re.sub(r'(dot_product)\w+', r'\1_attention', bare)


def _only_views(func: torch._ops.OpOverload) -> bool:
    return func.is_view or torch.Tag.inplace_view in func.tags


def _share_memory(some: list[Tensor], others: list[Tensor]) -> bool:
    places = {t.untyped_storage().data_ptr() for t in others} - {0}
    return any(t.untyped_storage().data_ptr() in places for t in some)
