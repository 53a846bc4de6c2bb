"""RoI input: format, checks, and which RoIs can be pooled at all."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .row_sum import exporting


def to_rois(boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Return boxes as one ``(K, 5)`` tensor of (batch index, x1, y1, x2, y2).

    Args:
        boxes: ``(K, 5)`` RoIs, or one ``(L, 4)`` tensor of (x1, y1, x2, y2)
            for each image of the batch.

    Raises:
        ValueError: the shape is neither.
    """
    if isinstance(boxes, Tensor):
        if boxes.dim() != 2 or boxes.size(1) != 5:
            raise ValueError(
                'boxes: expected one (K, 5) tensor of the batch index, x1, '
                f'y1, x2, y2, got {tuple(boxes.shape)}'
            )
        return boxes
    if not isinstance(boxes, (list, tuple)) or not boxes:
        raise ValueError(
            'boxes: expected a (K, 5) tensor or a list with one (L, 4) tensor '
            f'per image, got {type(boxes).__name__} {boxes!r}'
        )
    rows = []
    for i, box in enumerate(boxes):
        if not isinstance(box, Tensor) or box.dim() != 2 or box.size(1) != 4:
            got = tuple(box.shape) if isinstance(box, Tensor) else repr(box)
            raise ValueError(
                f'boxes: expected (L, 4) as entry {i} of the list, got {got}'
            )
        rows.append(torch.cat([torch.full_like(box[:, :1], i), box], dim=1))
    return torch.cat(rows)


def to_pair(output_size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``output_size`` as (height, width) in bins."""
    if isinstance(output_size, int):
        output_size = (output_size, output_size)
    pair = tuple(output_size) if isinstance(output_size, Sequence) else ()
    if len(pair) != 2 or any(not isinstance(p, int) or p < 1 for p in pair):
        raise ValueError(
            'output_size: expected a positive int or two of them (height, '
            f'width), got {output_size!r}'
        )
    return pair


def check_map(
    input: Tensor, output_size: tuple[int, int], spatial_scale: float
) -> int:
    """Return the output channels of a position-sensitive map ``(N, C, H, W)``.

    Raises:
        ValueError: not 4 dimensions, not floating point, empty, or ``C`` is
            not a multiple of the number of bins; a scale of no use.
    """
    check_scale(spatial_scale)
    bins = output_size[0] * output_size[1]
    if input.dim() != 4 or not input.is_floating_point():
        raise ValueError(
            'input: expected a floating point (N, C, H, W) map, got '
            f'{input.dtype} {tuple(input.shape)}'
        )
    if input.size(1) % bins or not input.size(1):
        raise ValueError(
            f'input: its channels must be a multiple of the {bins} bins of '
            f'output_size={output_size}, got {input.size(1)}'
        )
    if input.size(2) == 0 or input.size(3) == 0:
        raise ValueError(
            'input: expected a map of at least one row and column, got '
            f'{tuple(input.shape)}'
        )
    return input.size(1) // bins


def check_scale(spatial_scale: float) -> None:
    """Check the cells of the map per pixel of the boxes."""
    if not 0 < spatial_scale < math.inf:
        raise ValueError(
            'spatial_scale: expected a positive finite number, got '
            f'{spatial_scale!r}'
        )


def is_eager_cpu(tensor: Tensor) -> bool:
    """Whether values can be read now, at no cost."""
    return (
        tensor.device.type == 'cpu'
        and not torch.compiler.is_compiling()
        and not exporting()
        and not isinstance(tensor, FakeTensor)
    )


def read_rois(
    boxes: Tensor | Sequence[Tensor], input: Tensor, spatial_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which RoIs can be pooled, their images and their boxes in cells.

    A RoI that cannot be pooled is one with a NaN or infinite value, an empty
    one (``x2 <= x1`` or ``y2 <= y1``, in cells), or one of no existing image.
    It is answered by the box 0, 0, 0, 0 of image 0 and shall be given no
    weight.

    Args:
        boxes: of :func:`to_rois`.
        input: the map; its dtype is that of the result, float32 at least.
        spatial_scale: cells per pixel.

    Returns:
        ``(K,)`` bool, ``(K,)`` int64, ``(K, 4)``.

    Raises:
        ValueError: on an eager CPU, a finite batch index that no image has.
            Elsewhere the check would wait for the device.
    """
    dtype = torch.promote_types(input.dtype, torch.float32)
    rois = to_rois(boxes).detach().to(dtype)
    image, images = rois[:, 0], input.size(0)
    of_an_image = (image > -1) & (image < images)
    if is_eager_cpu(rois):
        wrong = torch.isfinite(image) & ~of_an_image
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f'boxes: the batch index must be in [0, {images - 1}] for an '
                f'input of {images} images, got {int(image[row])} in row {row}'
            )
    box = rois[:, 1:] * spatial_scale
    size = box[:, 2:] - box[:, :2]
    valid = (
        of_an_image
        & torch.isfinite(box).all(dim=1)
        & ((size > 0) & (size < math.inf)).all(dim=1)
    )
    nothing = torch.zeros_like(box)
    return (
        valid,
        torch.where(valid, image, nothing[:, 0]).long(),
        torch.where(valid[:, None], box, nothing),
    )
