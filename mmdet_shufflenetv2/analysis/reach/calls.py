"""A call of an operation, and the boxes of pixels of what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        func: the operation.
        args, kwargs: what it was called with.
        outputs: tensors it returned.
        boxes: by the identity of an input tensor (4, *shape), for those
            that depend on the image.
    """

    func: torch._ops.OpOverload
    args: tuple
    kwargs: dict
    outputs: list[Tensor]
    boxes: dict[int, Tensor]

    def of(self, tensor: object) -> Tensor:
        """The boxes of an argument; nothing of the image without any."""
        found = self.boxes.get(id(tensor))
        if found is not None:
            return found
        shape = tensor.shape if isinstance(tensor, Tensor) else ()
        return self.outputs[0].new_zeros((4, *shape), dtype=torch.float32)

    def argument(self, name: str, default: object = None) -> object:
        """An argument by its name in the operation's signature."""
        if name in self.kwargs:
            return self.kwargs[name]
        for given, expected in zip(
            self.args, self.func._schema.arguments, strict=False
        ):
            if expected.name == name:
                return given
        return default


def fit(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Expand boxes to (4, *shape), as broadcasting does."""
    missing = len(shape) + 1 - boxes.dim()
    return boxes[(slice(None), *[None] * missing)].expand(4, *shape)


def together(shape: Sequence[int], *boxes: Tensor) -> Tensor:
    """The boxes around several, (4, *shape), as broadcasting joins them."""
    result = fit(boxes[0], shape)
    for other in boxes[1:]:
        result = torch.maximum(result, fit(other, shape))
    return result


def over(boxes: Tensor, dims: Sequence[int]) -> Tensor:
    """The box around those along dimensions, which become 1.

    Args:
        boxes: (4, *shape).
        dims: of the shape, counted without the 4.
    """
    count = boxes.dim() - 1
    places = [dim % count + 1 for dim in dims] if count else []
    return boxes.amax(places, keepdim=True) if places else boxes
