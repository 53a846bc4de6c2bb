"""What windows that slide over tensors do to their boxes of pixels.

N images, C channels; the boxes of a tensor have a first dimension of 4.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .calls import Call, fit, over
from .fields import per_side

_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def slide(
    boxes: Tensor,
    out: Sequence[int],
    kernel: Sequence[int],
    step: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The boxes after a window over one, two or three dimensions.

    Args:
        boxes: (4, N, C, ...).
        out: the result's size along these dimensions.
        kernel, step, padding, dilation: the window's, for each dimension.

    Returns:
        (4, N, C, *out).
    """
    ends: list[int] = []
    for side, n in enumerate(boxes.shape[3:]):
        last = (out[side] - 1) * step[side]
        needed = last + (kernel[side] - 1) * dilation[side] + 1
        ends = [padding[side], needed - n - padding[side], *ends]
    flat = F.pad(boxes.flatten(0, 1), ends)
    # A pooling of its own does not pad: boxes of nothing are 0, not -inf.
    moved = _POOLS[len(kernel)](flat, kernel, step, 0, dilation)
    return moved.unflatten(0, boxes.shape[:2])


def convolved(call: Call) -> list[Tensor] | None:
    """A convolution, not transposed, goes over a window and all channels."""
    args, (out,) = call.args, call.outputs
    if args[6] or id(args[1]) in call.boxes:
        # Transposed, or with a kernel that is made from the image.
        return None
    kernel = args[1].shape[2:]
    step, padding, dilation = (
        per_side(args[place], len(kernel)) for place in (3, 4, 5)
    )
    boxes = over(call.of(args[0]), [1])
    found = slide(boxes, out.shape[2:], kernel, step, padding, dilation)
    return [fit(found, out.shape)]


def pooled(call: Call) -> list[Tensor]:
    """A pooling goes over a window."""
    shape = call.outputs[0].shape
    count = 3 if '3d' in call.func._schema.name else 2
    kernel = per_side(call.argument('kernel_size'), count)
    step = per_side(call.argument('stride') or kernel, count)
    found = slide(
        call.of(call.args[0]),
        shape[2:],
        kernel,
        step,
        per_side(call.argument('padding', 0), count),
        per_side(call.argument('dilation', 1), count),
    )
    return [found for _ in call.outputs]


def pooled_to_a_size(call: Call) -> list[Tensor] | None:
    """Windows of a map in equal parts; others overlap and are not known."""
    (n, m), shape = call.args[0].shape[-2:], call.outputs[0].shape[-2:]
    kernel = (n // shape[0], m // shape[1])
    if n % shape[0] or m % shape[1]:
        return None
    boxes = call.of(call.args[0])
    found = slide(boxes, shape, kernel, kernel, (0, 0), (1, 1))
    return [found for _ in call.outputs]


def interpolated(call: Call) -> list[Tensor]:
    """A position depends on the two nearest ones, or four."""
    boxes, shape = call.of(call.args[0]), call.outputs[0].shape
    around = 2 if 'bicubic' in call.func._schema.name else 1
    side = 2 * around + 1
    wide = slide(
        boxes, boxes.shape[3:], *[(n, n) for n in (side, 1, around, 1)]
    )
    near = F.interpolate(wide.flatten(0, 1), shape[2:])
    return [near.unflatten(0, (4, shape[0]))]
