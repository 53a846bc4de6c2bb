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
                'boxes: one tensor must be (K, 5), the batch index and then '
                f'x1, y1, x2, y2, got {tuple(boxes.shape)}'
            )
        return boxes
    if not isinstance(boxes, (list, tuple)) or not boxes:
        raise ValueError(
            'boxes: a (K, 5) tensor or a list with one (L, 4) tensor per '
            f'image is allowed, got {type(boxes).__name__} {boxes!r}'
        )
    for i, box in enumerate(boxes):
        if not isinstance(box, Tensor) or box.dim() != 2 or box.size(1) != 4:
            got = tuple(box.shape) if isinstance(box, Tensor) else repr(box)
            raise ValueError(
                f'boxes: entry {i} of the list must be (L, 4), got {got}'
            )
    rows = [
        torch.cat([box.new_full((box.size(0), 1), float(i)), box], dim=1)
        for i, box in enumerate(boxes)
    ]
    return torch.cat(rows, dim=0)


def to_pair(output_size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``output_size`` as (height, width) in bins."""
    if isinstance(output_size, int):
        output_size = (output_size, output_size)
    pair = tuple(output_size) if isinstance(output_size, Sequence) else ()
    if len(pair) != 2 or any(not isinstance(p, int) or p < 1 for p in pair):
        raise ValueError(
            'output_size: a positive int or two of them (height, width) are '
            f'allowed, got {output_size!r}'
        )
    return pair


def check_map(input: Tensor, output_size: tuple[int, int]) -> int:
    """Return the output channels of a position-sensitive map ``(N, C, H, W)``.

    Raises:
        ValueError: not 4 dimensions, not floating point, or ``C`` is no
            multiple of the number of bins.
    """
    bins = output_size[0] * output_size[1]
    if input.dim() != 4 or not input.is_floating_point():
        raise ValueError(
            'input: a floating point (N, C, H, W) map is allowed, got '
            f'{input.dtype} {tuple(input.shape)}'
        )
    if input.size(1) % bins or not input.size(1):
        raise ValueError(
            f'input: its channels must be a multiple of the {bins} bins of '
            f'output_size={output_size}, got {input.size(1)}'
        )
    if input.size(2) == 0 or input.size(3) == 0:
        raise ValueError(
            'input: a map of at least one row and column is allowed, got '
            f'{tuple(input.shape)}'
        )
    return input.size(1) // bins


def check_scale(spatial_scale: float) -> None:
    """Check the cells of the map per pixel of the boxes."""
    if not 0 < spatial_scale < math.inf:
        raise ValueError(
            'spatial_scale: a positive finite number is allowed, got '
            f'{spatial_scale!r}'
        )


def values_known(tensor: Tensor) -> bool:
    """Whether values can be read now, at no cost: an eager CPU tensor."""
    return (
        tensor.device.type == 'cpu'
        and not torch.compiler.is_compiling()
        and not exporting()
        and not isinstance(tensor, FakeTensor)
    )


def check_images(rois: Tensor, batch_size: int) -> None:
    """Check that RoIs on a CPU are of existing images.

    Elsewhere a check would wait for the device, so :func:`split_rois` alone
    takes care of them there.

    Raises:
        ValueError: a finite batch index outside ``[0, batch_size)``.
    """
    if not values_known(rois):
        return
    image = rois[:, 0]
    wrong = torch.isfinite(image) & ((image <= -1) | (image >= batch_size))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f'boxes: the batch index must be in [0, {batch_size - 1}] for an '
            f'input of {batch_size} images, got {int(image[row])} in row {row}'
        )


def split_rois(
    rois: Tensor, batch_size: int, spatial_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which RoIs can be pooled, their images and their boxes in cells.

    A RoI that cannot be pooled is one with a NaN or infinite value, an empty
    one (``x2 <= x1`` or ``y2 <= y1``, in cells), or one of no existing image.
    It is answered by the box 0, 0, 0, 0 of image 0 and shall be given no
    weight.

    Args:
        rois: ``(K, 5)``.
        batch_size: images of the map.
        spatial_scale: cells per pixel.

    Returns:
        ``(K,)`` bool, ``(K,)`` int64, ``(K, 4)``.
    """
    rois = torch.cat([rois[:, :1], rois[:, 1:] * spatial_scale], 1)
    size = rois[:, 3:] - rois[:, 1:3]
    valid = (
        torch.isfinite(rois).all(dim=1)
        & (size > 0).all(dim=1)
        & (size < math.inf).all(dim=1)
        & (rois[:, 0] > -1)
        & (rois[:, 0] < batch_size)
    )
    rois = torch.where(valid[:, None], rois, torch.zeros_like(rois))
    return valid, rois[:, 0].long(), rois[:, 1:]


def read_rois(
    boxes: Tensor | Sequence[Tensor], input: Tensor, spatial_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return :func:`split_rois` of checked boxes, in float32 at least."""
    dtype = torch.promote_types(input.dtype, torch.float32)
    rois = to_rois(boxes).detach().to(dtype)
    check_images(rois, input.size(0))
    return split_rois(rois, input.size(0), spatial_scale)
