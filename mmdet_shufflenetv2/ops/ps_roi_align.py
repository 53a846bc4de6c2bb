"""Position-sensitive RoI align (Light-Head R-CNN, arXiv 1711.07264).

Shapes: N images, K RoIs, C output channels, P bins per side (``ph`` by
``pw`` where they differ), S samples per bin and side, T taps per bin and side.

A bin averages S x S bilinear samples. Its grid is a product of rows and
columns, so a bin is ``sum_ij wy[i] wx[j] map[y[i], x[j]]`` over T = 2S rows
and columns: a weighted sum of rows of a table, which is an embedding bag.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rois import check_map, poolable, to_pair, to_rois


def _axis_taps(
    start: Tensor, size: Tensor, bins: int, samples: Tensor | int, length: int
) -> tuple[Tensor, Tensor]:
    """Return cells and weights ``(K, bins, S, 2)`` of one axis.

    Args:
        start: ``(K,)`` first coordinate of the RoIs in cells.
        size: ``(K,)`` length of the RoIs in cells.
        bins: number of bins.
        samples: samples per bin, one number or ``(K,)``.
        length: cells of the map along this axis.
    """
    most = int(samples.max()) if isinstance(samples, Tensor) else samples
    step = torch.arange(most, device=start.device, dtype=start.dtype) + 0.5
    if isinstance(samples, Tensor):
        samples = samples[:, None, None]
    bin_size = size[:, None, None] / bins
    index = torch.arange(bins, device=start.device, dtype=start.dtype)
    position = (index[:, None] * bin_size + start[:, None, None]) + (
        step * bin_size / samples
    )
    inside = (position >= -1) & (position <= length) & (step < samples)
    position = position.clamp(0, length - 1)
    low = position.floor()
    high = (low + 1).clamp(max=length - 1)
    upper = position - low
    weight = torch.stack([1 - upper, upper], dim=-1)
    weight = weight * (inside.to(weight.dtype) / samples)[..., None]
    return torch.stack([low, high], dim=-1).long(), weight


def ps_roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """Pool each bin of each RoI from its own group of channels.

    Args:
        input: ``(N, C*ph*pw, H, W)``.
        boxes: ``(K, 5)`` or a list of ``(L, 4)``, in the image's pixels.
        output_size: bins, (height, width) or one number for both.
        spatial_scale: cells of the map per pixel of the boxes.
        sampling_ratio: samples per bin and side; when not positive, as many
            as a bin has cells.

    Returns:
        ``(K, C, ph, pw)``.
    """
    ph, pw = to_pair(output_size)
    channels = check_map(input, (ph, pw))
    dtype = torch.promote_types(input.dtype, torch.float32)
    rois = to_rois(boxes).detach().to(dtype)
    batch, _, height, width = input.shape
    if rois.size(0) == 0:
        return input.new_zeros(0, channels, ph, pw) + input.sum() * 0
    valid = poolable(rois, batch)
    rois = torch.where(valid[:, None], rois, torch.zeros_like(rois))
    start = rois[:, 1:3] * spatial_scale - 0.5
    size = (rois[:, 3:] * spatial_scale - 0.5) - start
    axes = []
    for axis, bins, length in ((1, ph, height), (0, pw, width)):
        samples = sampling_ratio
        if sampling_ratio <= 0:
            samples = (size[:, axis] / bins).ceil().clamp(min=1)
        cell, weight = _axis_taps(
            start[:, axis], size[:, axis], bins, samples, length
        )
        axes.append((cell.flatten(2), weight.flatten(2)))
    (y, wy), (x, wx) = [
        (cell.transpose(0, 1), weight.transpose(0, 1)) for cell, weight in axes
    ]
    wy = wy * valid[:, None]
    plane = torch.arange(ph * pw, device=input.device).view(ph, pw, 1)
    row = (plane * batch + rois[:, 0].long()) * height
    row = (row[..., None] + y[:, None]) * width
    index = row[..., None] + x[:, :, None]
    weight = wy[:, None, :, :, None] * wx[:, :, None]
    table = input.to(dtype).reshape(batch, channels, ph * pw, height, width)
    table = table.permute(2, 0, 3, 4, 1).reshape(-1, channels)
    pooled = F.embedding_bag(
        index.flatten(3).flatten(0, 2),
        table,
        mode='sum',
        per_sample_weights=weight.flatten(3).flatten(0, 2),
    )
    pooled = pooled.view(ph, pw, -1, channels).permute(2, 3, 0, 1)
    return pooled.contiguous().to(input.dtype)


class PSRoIAlign(nn.Module):
    """See :func:`ps_roi_align`."""

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float,
        sampling_ratio: int,
    ) -> None:
        super().__init__()
        self.output_size = to_pair(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(
        self, input: Tensor, rois: Tensor | Sequence[Tensor]
    ) -> Tensor:
        return ps_roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
        )
