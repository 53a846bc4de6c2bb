"""What the memory of a network's tensors depends on.

Tensors share memory: views, slices that are written one by one, work in
place. So what depends on which pixels is kept for memory, not for tensors: a
view needs no rule, it looks at the boxes that lie where its elements do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .boxes import as_field, boxes_of_map, pair, sizes
from .fields import Field, Pair, joined


@dataclass(frozen=True)
class Seen:
    """What a tensor depends on.

    Attributes:
        field: of a map's positions; with boxes only whether there is the
            whole image besides.
        boxes: (4, *shape) of all elements, where they form no map.
    """

    field: Field
    boxes: Tensor | None = None

    @property
    def is_local(self) -> bool:
        """Whether elements depend on different parts of the image."""
        return self.boxes is not None or self.field.size is not None


@dataclass(frozen=True)
class _Layout:
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    itemsize: int

    @staticmethod
    def of(tensor: Tensor) -> '_Layout':
        return _Layout(
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
            tensor.element_size(),
        )

    def has_map_of(self, other: '_Layout') -> bool:
        """Whether height and width are the last two dimensions of both."""
        return self._map() is not None and self._map() == other._map()

    def _map(self) -> tuple | None:
        if len(self.shape) < 3:
            return None
        sides = zip(self.shape[-2:], self.strides[-2:], strict=True)
        # The stride of a single position means nothing.
        return tuple((n, stride if n > 1 else 0) for n, stride in sides)


@dataclass(frozen=True)
class _Written:
    storage: StorageWeakRef
    layout: _Layout
    field: Field
    boxes: Tensor | None


class SeenMemory:
    """Boxes and fields, by where tensors lie.

    Args:
        image: (1, 3, H, W), which everything begins with.
    """

    def __init__(self, image: Tensor):
        self.image_size = tuple(image.shape[-2:])
        self._written: dict[int, _Written] = {}
        self.write(image, Seen(Field()))

    def read(self, tensor: Tensor) -> Seen | None:
        """What a tensor depends on; None if on nothing of the image."""
        found = self._find(tensor)
        if found is None:
            return None
        layout = _Layout.of(tensor)
        is_known = found.field.unknown is None
        if is_known and layout.itemsize != found.layout.itemsize:
            reason = f'a view as {tensor.dtype} cannot be followed'
            return Seen(Field(None, None, unknown=reason))
        is_map = found.boxes is None
        if is_map and (
            found.field.size is None or layout.has_map_of(found.layout)
        ):
            return Seen(found.field)
        flags = replace(found.field, size=None, stride=None)
        return Seen(flags, _part(self._flat(found, tensor), layout))

    def boxes(self, tensor: Tensor) -> Tensor | None:
        """The boxes (4, *shape) of a tensor's elements, if it is local."""
        seen = self.read(tensor)
        if seen is None or not seen.is_local:
            return None
        if seen.boxes is not None:
            return seen.boxes
        return self._of_map(seen.field, tensor.shape, tensor.device)

    def write(self, tensor: Tensor, seen: Seen) -> None:
        """Remember what a tensor, perhaps a part of others, depends on."""
        if not tensor.numel():
            return
        layout, storage = _Layout.of(tensor), tensor.untyped_storage()
        written = _Written(
            StorageWeakRef(storage), layout, seen.field, seen.boxes
        )
        if seen.boxes is not None:
            flat = _nothing(tensor)
            _part(flat, layout).copy_(seen.boxes)
            written = replace(written, boxes=flat)
            self._drop_freed()
        before = self._find(tensor)
        if before is not None and tensor.numel() < _elements(tensor):
            written = self._beside(before, written, tensor)
        self._written[storage.data_ptr()] = written

    def forget(self, tensor: Tensor) -> None:
        """A tensor has been written that depends on nothing."""
        if tensor.numel() == _elements(tensor):
            self._written.pop(tensor.untyped_storage().data_ptr(), None)

    def field(self, tensor: Tensor) -> Field | None:
        """What one position of a level depends on.

        Of a map whose positions differ it is the middle one, of other
        tensors the element that sees most.
        """
        seen = self.read(tensor)
        if seen is None:
            return None
        field = seen.field
        if seen.boxes is not None:
            field = self._of_boxes(seen.boxes, field)
        if field.size is None and not (field.whole_by or field.unknown):
            return None
        if tensor.dim() != 4:
            return replace(field, stride=None)
        if field.size is None or field.stride is None:
            return replace(field, stride=self._stride(tensor))
        return field

    def _of_boxes(self, boxes: Tensor, flags: Field) -> Field:
        if boxes.dim() == 5:
            found = as_field(boxes, self.image_size)
            if found is not None:
                return joined([flags, found])
            height, width = boxes.shape[-2:]
            middle = boxes[..., height // 2, width // 2]
            boxes = middle.amax((1, 2))[:, None]
        if not boxes.any():
            return flags
        return replace(flags, size=pair(sizes(boxes).flatten(1).amax(1)))

    def _stride(self, level: Tensor) -> Pair:
        before, after = self.image_size, level.shape[-2:]
        steps = [b / a for b, a in zip(before, after, strict=True)]
        return pair(torch.tensor(steps))

    def _find(self, tensor: Tensor) -> _Written | None:
        found = self._written.get(tensor.untyped_storage().data_ptr())
        # Memory that was freed may be somebody else's by now.
        return None if found is None or found.storage.expired() else found

    def _of_map(self, field: Field, shape: Sequence[int], device) -> Tensor:
        return boxes_of_map(field, shape, self.image_size, device)

    def _flat(self, written: _Written, tensor: Tensor) -> Tensor:
        """The boxes (4, elements) of all of a tensor's memory."""
        if written.boxes is not None:
            return written.boxes
        flat, layout = _nothing(tensor), written.layout
        if written.field.size is not None:
            of_map = self._of_map(written.field, layout.shape, tensor.device)
            _part(flat, layout).copy_(of_map)
        return flat

    def _beside(
        self, before: _Written, now: _Written, tensor: Tensor
    ) -> _Written:
        """Memory of which a part has been written anew."""
        fields = [before.field, now.field]
        if now.field.size is None and now.boxes is None:
            return replace(before, field=joined(fields))
        if (
            before.boxes is None
            and now.boxes is None
            and now.layout.has_map_of(before.layout)
        ):
            return replace(before, field=joined(fields))
        flat = self._flat(before, tensor).clone()
        own = _part(self._flat(now, tensor), now.layout)
        _part(flat, now.layout).copy_(own)
        flags = replace(joined(fields), size=None, stride=None)
        return replace(before, field=flags, boxes=flat)

    def _drop_freed(self) -> None:
        self._written = {
            place: written
            for place, written in self._written.items()
            if written.boxes is None or not written.storage.expired()
        }


def _elements(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _nothing(tensor: Tensor) -> Tensor:
    shape = (4, _elements(tensor))
    return torch.zeros(shape, dtype=torch.float32, device=tensor.device)


def _part(flat: Tensor, layout: _Layout) -> Tensor:
    return flat.as_strided(
        (4, *layout.shape), (flat.shape[1], *layout.strides), layout.offset
    )
