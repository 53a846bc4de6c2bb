"""Position-sensitive RoI pooling (R-FCN, arXiv 1605.06409).

Shapes: N images, K RoIs, C output channels, ``ph`` by ``pw`` bins.

A bin is the mean of a box of whole cells. An integral image (sums of all
cells above and left) makes it four reads, whatever the size of the box.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rois import check_map, poolable, to_pair, to_rois


def _round_half_away(value: Tensor) -> Tensor:
    """Round as C's ``round``: halves go away from zero."""
    whole = value.trunc()
    rest = value - whole
    return whole + (rest.abs() >= 0.5) * rest.sign()


def _axis_edges(
    low: Tensor, high: Tensor, bins: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return first and one-past-last cell ``(K, bins)`` of each bin."""
    low = _round_half_away(low)
    size = (_round_half_away(high) - low).clamp(min=1)
    index = torch.arange(bins, device=low.device, dtype=low.dtype)
    bin_size = size[:, None] / bins
    first = (index * bin_size).floor() + low[:, None]
    last = ((index + 1) * bin_size).ceil() + low[:, None]
    return first.clamp(0, length), last.clamp(0, length)


def ps_roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Average, for each bin of each RoI, the cells of its own channels.

    Args:
        input: ``(N, C*ph*pw, H, W)``.
        boxes: ``(K, 5)`` or a list of ``(L, 4)``, in the image's pixels.
        output_size: bins, (height, width) or one number for both.
        spatial_scale: cells of the map per pixel of the boxes.

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
    edge = rois[:, 1:] * spatial_scale
    y = _axis_edges(edge[:, 1], edge[:, 3], ph, height)
    x = _axis_edges(edge[:, 0], edge[:, 2], pw, width)
    rows, columns = (y[1] - y[0]).t(), (x[1] - x[0]).t()
    area = rows[:, None] * columns
    scale = torch.where(area > 0, valid / area, torch.zeros_like(area))
    y = torch.stack(y, dim=-1).long().transpose(0, 1)
    x = torch.stack(x, dim=-1).long().transpose(0, 1)
    plane = torch.arange(ph * pw, device=input.device).view(ph, pw, 1)
    row = (plane * batch + rois[:, 0].long()) * (height + 1)
    row = (row[..., None] + y[:, None]) * (width + 1)
    index = row[..., None] + x[:, :, None]
    sign = torch.tensor([[1, -1], [-1, 1]], device=input.device)
    weight = (sign * scale[..., None, None]).double()
    table = input.reshape(batch, channels, ph * pw, height, width)
    table = table.permute(2, 0, 3, 4, 1).double()
    table = F.pad(table.cumsum(2).cumsum(3), (0, 0, 1, 0, 1, 0))
    pooled = F.embedding_bag(
        index.flatten(3).flatten(0, 2),
        table.reshape(-1, channels),
        mode='sum',
        per_sample_weights=weight.flatten(3).flatten(0, 2),
    )
    pooled = pooled.view(ph, pw, -1, channels).permute(2, 3, 0, 1)
    return pooled.contiguous().to(input.dtype)


class PSRoIPool(nn.Module):
    """See :func:`ps_roi_pool`."""

    def __init__(
        self, output_size: int | Sequence[int], spatial_scale: float
    ) -> None:
        super().__init__()
        self.output_size = to_pair(output_size)
        self.spatial_scale = spatial_scale

    def forward(
        self, input: Tensor, rois: Tensor | Sequence[Tensor]
    ) -> Tensor:
        return ps_roi_pool(input, rois, self.output_size, self.spatial_scale)
