"""Boxes of pixels: what each element of a tensor depends on.

Where a tensor is no map whose positions all see rectangles of one size,
after a network cut it into patches, windows or tokens, every element has its
own box: (4, ...), up, down, left and right. Each side is stored as a positive
number that grows with the box, and 0 where an element depends on nothing of
the image. So the box around several is the largest of each side, and
whatever moves values, pads them with zeros or writes them in place does the
right thing to boxes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .fields import Field, Pair

# More than any field reaches beyond its image, and few enough bits for
# float32 to keep 1/512 of a pixel.
_ORIGIN = 2.0**14
# How much of a side is all of it: a stride leaves out some pixels at edges.
_ALL = 0.9


def boxes_of_map(
    field: Field, shape: Sequence[int], image: Sequence[int], device: object
) -> Tensor:
    """The boxes of a map's positions, which lie around the image's middle.

    Args:
        field: of each position.
        shape: (..., H, W) of the map.
        image: (H, W) of the image.
        device: where the result lies.

    Returns:
        (4, ..., H, W), expanded.
    """
    sides = []
    for axis in range(2):
        n = shape[axis - 2]
        place = torch.arange(n, dtype=torch.float32, device=device)
        middle = (image[axis] - 1) / 2
        centre = middle + (place - (n - 1) / 2) * field.stride[axis]
        half = (field.size[axis] - 1) / 2
        for side in (half - centre, half + centre):
            side = (side + _ORIGIN).view((-1, 1) if axis == 0 else (1, -1))
            sides.append(side.expand(shape))
    return torch.stack(sides)


def sizes(boxes: Tensor) -> Tensor:
    """Height and width in pixels, (2, ...), of boxes (4, ...)."""
    return boxes[0::2] + boxes[1::2] - 2 * _ORIGIN + 1


def is_uniform(boxes: Tensor) -> bool:
    """Whether all elements have the same box."""
    flat = boxes.flatten(1)
    return bool((flat == flat[:, :1]).all())


def see_all(boxes: Tensor, image: Sequence[int]) -> bool:
    """Whether all boxes are around the whole image, of size (H, W)."""
    height, width = image
    slack = 1 - _ALL
    ends = boxes.flatten(1).amin(1).tolist()
    up, left = (_ORIGIN - end for end in ends[0::2])
    down, right = (end - _ORIGIN + 1 for end in ends[1::2])
    return (
        up <= slack * height
        and left <= slack * width
        and down >= _ALL * height
        and right >= _ALL * width
    )


def _number(value: float) -> float:
    """Without what rounding added."""
    value = round(value, 2)
    return int(value) if value == int(value) else value


def pair(values: Tensor) -> Pair:
    """Two numbers as those of a field."""
    return tuple(map(_number, values.tolist()))


def _without_edges(boxes: Tensor) -> Tensor:
    """The part of boxes (4, H, W) that no padding has reached.

    Of a large map it is the middle; of a small one all that depends on
    something.
    """
    for dim in (1, 2):
        (filled,) = boxes.amax((0, 3 - dim)).nonzero(as_tuple=True)
        if not len(filled):
            return boxes
        first, count = filled[0].item(), (filled[-1] - filled[0] + 1).item()
        edge = count // 4 if count >= 8 else 0
        boxes = boxes.narrow(dim, first + edge, count - 2 * edge)
    return boxes


def as_field(boxes: Tensor, image: Sequence[int]) -> Field | None:
    """The field of a map, if all its positions see boxes of one size.

    Args:
        boxes: (4, N, C, H, W).
        image: (H, W) of the image.

    Returns:
        size and stride; None if positions do not lie as in a map.
    """
    boxes = _without_edges(boxes.amax((1, 2)))
    size = sizes(boxes)
    if not boxes.all() or not is_uniform(size.round(decimals=1)):
        return None
    # The ends below and to the right.
    down, right = boxes[1], boxes[3]
    steps = []
    for ends, length in ((down, image[0]), (right.T, image[1])):
        if not (ends == ends[:, :1]).all():
            return None
        step = ends[:, 0].diff()
        if not len(step):
            step = torch.tensor([length], dtype=torch.float32)
        if step[0] <= 0 or (step - step[0]).abs().max() > 0.1:
            return None
        steps.append(_number(step[0].item()))
    return Field(pair(size[:, 0, 0]), tuple(steps))
