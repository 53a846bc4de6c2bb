"""Deformable RoI pooling (arXiv 1703.06211, section 2.2).

Shapes: a map of (N, C, H, W), K RoIs as (K, 5) rows of image index, x1, y1,
x2, y2 in pixels, offsets (K, 2, PH, PW) of each bin in x and y, as a part of
the RoI's size times ``gamma``; empty for none.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .precision import full_precision


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    **settings,
) -> None:
    """Averages of the shifted bins into ``output`` (K, C, PH, PW)."""
    output.copy_(
        _pool(full_precision(input), rois, full_precision(offset), **settings)
    )


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
    leaves = [
        full_precision(tensor).detach().requires_grad_()
        for tensor in (input, offset)
    ]
    with torch.enable_grad():
        pooled = _pool(leaves[0], rois, leaves[1], **settings)
    grads = torch.autograd.grad(
        pooled, leaves, full_precision(grad_output), allow_unused=True
    )
    for buffer, grad in zip((grad_input, grad_offset), grads, strict=True):
        if grad is not None:
            buffer.copy_(grad)


def _pool(
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
    """Differentiable pooling (K, C, PH, PW); RoIs of one grid together."""
    rois = rois.to(input.dtype)
    bins = rois.new_tensor([pooled_width, pooled_height])
    low = rois[:, 1:3] * spatial_scale - 0.5
    size = rois[:, 3:] * spatial_scale - 0.5 - low
    rows = torch.arange(pooled_height, device=rois.device)
    columns = torch.arange(pooled_width, device=rois.device)
    index = torch.stack(torch.meshgrid(columns, rows, indexing='xy'), -1)
    bin_size = (size / bins)[:, None, None]
    starts = low[:, None, None] + index * bin_size
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
    output = input.new_zeros(
        len(rois), input.size(1), pooled_height, pooled_width
    )
    for kind, (image, wide, high) in enumerate(kinds.long().tolist()):
        if wide < 1 or high < 1:
            continue  # a RoI without area has no samples and pools to 0
        group = (kind_of == kind).nonzero()[:, 0]
        points = _sample_points(starts[group], bin_size[group], wide, high)
        output[group] = _averages(input[image], points)
    return output


def _sample_points(
    starts: Tensor, bin_size: Tensor, wide: int, high: int
) -> Tensor:
    """Positions (k, PH, PW, high * wide, 2) in x, y of the samples."""
    x = (torch.arange(wide, device=starts.device) + 0.5) / wide
    y = (torch.arange(high, device=starts.device) + 0.5) / high
    inside = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)
    inside = inside.reshape(-1, 2).to(starts.dtype)
    return starts[:, :, :, None] + inside * bin_size[:, :, :, None]


def _averages(plane: Tensor, points: Tensor) -> Tensor:
    """Means (k, C, PH, PW) of bilinear samples of a map (C, H, W).

    A sample up to one pixel outside takes the border's value, further out 0,
    as in RoIAlign.
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
