"""RoIAlign, and pooling of bins that move.

Shapes: a map of (N, C, H, W), K RoIs as (K, 5) rows of image index, x1, y1,
x2, y2 in pixels; a pooled value is (K, C, PH, PW) of PH x PW bins.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from . import differentiate, full_precision, not_offered

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
    """RoIAlign (arXiv 1703.06870, section 3) into ``output``."""
    if pool_mode != AVERAGE:
        raise not_offered("RoIAlign with pool_mode='max'")
    values, bins = full_precision(input), (aligned_height, aligned_width)
    rois = rois.to(values.dtype)
    output.copy_(
        compiled.roi_align(
            values, rois, spatial_scale, *bins, sampling_ratio, aligned
        )
    )


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
    grad, bins = full_precision(grad_output), (aligned_height, aligned_width)
    grad_input.copy_(
        compiled._roi_align_backward(
            *(grad, rois.to(grad.dtype), spatial_scale, *bins),
            *(*grad_input.shape, sampling_ratio, aligned),
        )
    )


def deform_roi_pool_forward(
    input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings
) -> None:
    """Deformable RoI pooling (arXiv 1703.06211, section 2.2).

    Args:
        offset: (K, 2, PH, PW), the shift of each bin in x and y as a part of
            the RoI's size times ``gamma``; empty for none.
        output: Receives the averages of the shifted bins.
    """
    values, shift = full_precision(input), full_precision(offset)
    output.copy_(_pool_shifted(values, rois, shift, **settings))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    **settings,
) -> None:
    """Gradients by the map and by the offsets into their buffers."""
    differentiate(
        lambda values, shift: _pool_shifted(values, rois, shift, **settings),
        (input, offset),
        grad_output,
        (grad_input, grad_offset),
    )


def _pool_shifted(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Pool RoIs of the same image and grid of samples together."""
    rois = rois.to(input.dtype)
    bins = rois.new_tensor([pooled_width, pooled_height])
    low = rois[:, 1:3] * spatial_scale - 0.5
    size = rois[:, 3:] * spatial_scale - 0.5 - low
    bin_size = (size / bins)[:, None, None]
    starts = low[:, None, None] + bin_size * _grid(
        rois, pooled_height, pooled_width
    )
    if offset.numel():
        shift = offset.to(input.dtype).permute(0, 2, 3, 1)
        starts = starts + gamma * size[:, None, None] * shift
    grids = (
        torch.full_like(size, sampling_ratio)
        if sampling_ratio > 0
        else (size / bins).ceil()
    )
    kinds, kind_of = torch.cat((rois[:, :1], grids), 1).unique(
        dim=0, return_inverse=True
    )
    shape = len(rois), input.size(1), pooled_height, pooled_width
    output = input.new_zeros(shape)
    for kind, (image, wide, high) in enumerate(kinds.long().tolist()):
        if wide < 1 or high < 1:
            continue  # a RoI without area has no samples and pools to 0
        group = (kind_of == kind).nonzero()[:, 0]
        inside = (_grid(rois, high, wide) + 0.5) / rois.new_tensor(
            [wide, high]
        )
        points = (
            starts[group, :, :, None]
            + inside.flatten(0, 1) * (bin_size[group, :, :, None])
        )
        output[group] = _averages(input[image], points)
    return output


def _grid(like: Tensor, high: int, wide: int) -> Tensor:
    """Whole positions (high, wide, 2) in x, y."""
    axes = (
        torch.arange(count, device=like.device, dtype=like.dtype)
        for count in (wide, high)
    )
    return torch.stack(torch.meshgrid(*axes, indexing='xy'), -1)


def _averages(plane: Tensor, points: Tensor) -> Tensor:
    """Means (k, C, PH, PW) of samples of a map (C, H, W).

    A sample up to one pixel outside takes the border's value, further out 0,
    as in RoIAlign.

    Args:
        points: (k, PH, PW, samples, 2) in x, y.
    """
    k, height, width, samples, _ = points.shape
    extent = points.new_tensor(plane.shape[:0:-1])
    values = grid_sample(
        plane[None],
        ((2 * points + 1) / extent - 1).view(1, -1, samples, 2),
        padding_mode='border',
        align_corners=False,
    )[0]
    inside = ((points >= -1) & (points <= extent)).all(-1)
    values = values * inside.view(1, -1, samples)
    means = values.mean(-1).view(-1, k, height, width)
    return means.transpose(0, 1)
