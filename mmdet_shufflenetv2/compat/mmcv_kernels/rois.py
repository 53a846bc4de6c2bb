"""Pooling of regions of interest.

Shapes: a map of (N, C, H, W), K RoIs as (K, 5) rows of image index, x1, y1,
x2, y2 in pixels; a pooled value is (K, C, PH, PW) of PH x PW bins.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, max_unpool2d

from .precision import full_precision

compiled = torch.ops.torchvision

AVERAGE = 1  # mmcv's number for this pool mode; 0 is 'max'


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (arXiv 1703.06870, section 3) into ``output``.

    Args:
        argmax_y, argmax_x: For 'max', the row and column of the largest
            sample, counted within its bin; left alone for 'avg'.
    """
    values = full_precision(input)
    rois = rois.to(values.dtype)
    bins = aligned_height, aligned_width
    if pool_mode == AVERAGE:
        pooled = compiled.roi_align(
            values, rois, spatial_scale, *bins, sampling_ratio, aligned
        )
        output.copy_(pooled)
        return
    for group, grid in _groups_of_one_grid(
        rois, bins, spatial_scale, sampling_ratio, aligned
    ):
        # With one sample to a bin, RoIAlign's finer bins are the samples.
        height, width = bins[0] * grid[0], bins[1] * grid[1]
        samples = compiled.roi_align(
            values, rois[group], spatial_scale, height, width, 1, aligned
        )
        largest, position = max_pool2d(samples, grid, return_indices=True)
        output[group] = largest.to(output.dtype)
        argmax_y[group] = (position // width % grid[0]).to(argmax_y.dtype)
        argmax_x[group] = (position % width % grid[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of ``roi_align_forward`` by the map into ``grad_input``."""
    grad = full_precision(grad_output)
    rois = rois.to(grad.dtype)
    bins = aligned_height, aligned_width
    shape = grad_input.shape
    if pool_mode == AVERAGE:
        by_map = compiled._roi_align_backward(
            grad, rois, spatial_scale, *bins, *shape, sampling_ratio, aligned
        )
        grad_input.copy_(by_map)
        return
    rows = torch.arange(bins[0], device=grad.device)[:, None]
    columns = torch.arange(bins[1], device=grad.device)
    by_map = grad.new_zeros(shape)
    for group, grid in _groups_of_one_grid(
        rois, bins, spatial_scale, sampling_ratio, aligned
    ):
        height, width = bins[0] * grid[0], bins[1] * grid[1]
        position = (rows * grid[0] + argmax_y[group].long()) * width + (
            columns * grid[1] + argmax_x[group].long()
        )
        by_sample = max_unpool2d(
            grad[group], position, grid, output_size=(height, width)
        )
        by_map += compiled._roi_align_backward(
            *(by_sample, rois[group], spatial_scale, height, width),
            *(*shape, 1, aligned),
        )
    grad_input.copy_(by_map)


def _groups_of_one_grid(
    rois: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Indices of the RoIs that sample their bins alike, and (rows, columns).

    ``sampling_ratio`` 0 takes about one sample to a pixel of the map, so
    larger RoIs have more of them. A RoI without area gets one.
    """
    if sampling_ratio > 0:
        grids = torch.full_like(rois[:, :2], sampling_ratio)
    else:
        size = (rois[:, [4, 3]] - rois[:, [2, 1]]) * spatial_scale
        if not aligned:
            size = size.clamp(min=1)
        grids = (size / size.new_tensor(bins)).ceil().clamp(min=1)
    kinds, kind_of = grids.long().unique(dim=0, return_inverse=True)
    for kind, grid in enumerate(kinds.tolist()):
        yield (kind_of == kind).nonzero()[:, 0], tuple(grid)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool (arXiv 1504.08083) with mmcv's bins, which are not rounded.

    mmcv takes a RoI from x1 to x2 + 1 and rounds only its bins' borders,
    outwards; torchvision rounds the RoI first. So every bin is handed to
    torchvision as a RoI of its own, in whole pixels.

    Args:
        output: (K, C, PH, PW); an empty bin stays 0.
        argmax: The same shape, int32: where on its plane (row * W + column)
            each value comes from; -1 for an empty bin.
    """
    values = full_precision(input)
    boxes = _bins_as_rois(
        rois.to(values.dtype),
        (pooled_height, pooled_width),
        spatial_scale,
        values.shape[-2:],
    )
    pooled, place = compiled.roi_pool(values, boxes, 1.0, 1, 1)
    empty = (boxes[:, 3:] < boxes[:, 1:3]).any(1)
    pooled[empty], place[empty] = 0, -1
    output.copy_(_bins_last(pooled, output.shape))
    argmax.copy_(_bins_last(place, output.shape))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of ``roi_pool_forward`` by the map into ``grad_input``."""
    height, width = grad_input.shape[-2:]
    image = rois[:, 0].long()[:, None, None, None]
    channels = torch.arange(grad_input.size(1), device=image.device)
    plane = image * grad_input.size(1) + channels[:, None, None]
    taken = argmax >= 0
    place = plane * (height * width) + argmax.clamp(min=0)
    by_map = full_precision(grad_output.new_zeros(grad_input.numel()))
    by_map.index_add_(0, place[taken], grad_output[taken].to(by_map.dtype))
    grad_input.copy_(by_map.view_as(grad_input))


def _bins_as_rois(
    rois: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    map_size: torch.Size,
) -> Tensor:
    """Every bin as a RoI (K*PH*PW, 5) from its first to its last pixel.

    One that holds no pixel ends before it begins.
    """
    ends = []
    for axis in (0, 1):  # x, y
        low = rois[:, 1 + axis, None] * spatial_scale
        size = (rois[:, 3 + axis, None] + 1) * spatial_scale - low
        count = bins[1 - axis]
        index = torch.arange(count, device=rois.device)
        limit = map_size[1 - axis]
        first = (index * (size / count) + low).floor().clamp(0, limit)
        last = ((index + 1) * (size / count) + low).ceil().clamp(0, limit) - 1
        ends.append((first, last.where(size > 0, first - 1)))
    (x1, x2), (y1, y2) = ends
    x1, x2 = (x[:, None, :].expand(-1, bins[0], -1) for x in (x1, x2))
    y1, y2 = (y[:, :, None].expand(-1, -1, bins[1]) for y in (y1, y2))
    image = rois[:, 0, None, None].expand_as(x1)
    return torch.stack((image, x1, y1, x2, y2), -1).reshape(-1, 5)


def _bins_last(pooled: Tensor, shape: torch.Size) -> Tensor:
    """(K*PH*PW, C, 1, 1) as ``shape`` (K, C, PH, PW)."""
    k, channels, height, width = shape
    return pooled.view(k, height, width, channels).permute(0, 3, 1, 2)
