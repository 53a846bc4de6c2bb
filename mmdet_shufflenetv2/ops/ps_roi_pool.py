"""Position-sensitive RoI pooling (R-FCN, arXiv 1605.06409).

Shapes: N images, K RoIs, C output channels, ``ph`` by ``pw`` bins.

A bin is the mean of a box of whole cells. There are two ways to compute it:

- sum the cells: the fewest reads for the small bins of a detector, but their
  number depends on the values of the RoIs;
- an integral image (sums of all cells above and left): four reads per bin
  whatever the RoIs, but two passes over the map in float64 (float32 would lose
  small bins to cancellation).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import wrap_torch_function

from .bins import Table, Taps, as_table, pool_groups, split_bins
from .rois import (
    PSRoIModule,
    check_map,
    is_eager_cpu,
    read_rois,
    to_pair,
    to_rois,
)
from .row_sum import row_sum

EdgePair = tuple[Tensor, Tensor]


def _round_half_away(value: Tensor) -> Tensor:
    """Round half away from zero, as C's ``round`` does."""
    whole = value.trunc()
    rest = value - whole
    return whole + (rest.abs() >= 0.5) * rest.sign()


def _edges(
    low: Tensor, high: Tensor, bins: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return the first and one-past-last cell of each bin, ``(bins, K)``.

    As in torchvision, boxes are rounded to at least one whole cell, and bins
    are rounded outwards, so neighbouring bins may share a cell.
    """
    low = _round_half_away(low)
    size = (_round_half_away(high) - low).clamp(min=1)
    index = torch.arange(bins, device=low.device, dtype=low.dtype)[:, None]
    bin_size = size / bins
    first = (index * bin_size).floor() + low
    last = ((index + 1) * bin_size).ceil() + low
    return first.clamp(0, length), last.clamp(0, length)


def _sum_corners(
    input: Tensor, image: Tensor, y: EdgePair, x: EdgePair
) -> Tensor:
    """Pool with an integral image; edges of bins are ``(bins, K)``."""
    ph, pw = y[0].size(0), x[0].size(0)
    split = split_bins(input, ph * pw).double()
    # Padded with zeros at the top and left, so that edges index it directly.
    split = F.pad(split.cumsum(2).cumsum(3), (0, 0, 1, 0, 1, 0))
    batch, height, width = split.shape[1:4]
    plane = height * width
    step = (pw * batch * plane, batch * plane, plane, width, 1)
    taps = []
    for first, last in (y, x):
        # A bin's two edges, weighted by -1 and 1 over its number of cells.
        share = 1 / (last - first).clamp(min=1)
        share = torch.where(last > first, share, 0)
        weight = torch.stack([-share, share])[None].double()
        taps.append(Taps(torch.stack([first, last])[None].int(), weight))
    return pool_groups(Table(split[None], step), image, [(None, *taps)])


def _sum_cells(
    input: Tensor, image: Tensor, y: EdgePair, x: EdgePair
) -> Tensor:
    """Pool by adding cells; edges of bins are ``(bins, K)``.

    Each row of a bin is a run of cells, so bins are first repeated for their
    rows, then rows for their cells.
    """
    table = as_table(input, (len(y[0]), len(x[0])))
    dtype = table.index_dtype
    (top, bottom), (left, right) = (
        tuple(edge.to(dtype) for edge in side) for side in (y, x)
    )
    height, width = (bottom - top)[:, None], right - left
    cells = height * width
    bin_row_step, bin_step, image_step, y_step, x_step = table.strides
    ph, pw = len(top), len(left)
    corner = (
        (torch.arange(ph, dtype=dtype) * bin_row_step)[:, None, None]
        + (torch.arange(pw, dtype=dtype) * bin_step)[:, None]
        + (top * y_step)[:, None]
        + left * x_step
        + image.to(dtype) * image_step
    )
    # All bins, then all rows, then all cells become one flat list.
    rows = height.expand_as(cells).flatten()
    of_row = torch.repeat_interleave(rows)
    first_row = rows.cumsum(0, dtype=dtype) - rows
    start = (corner.flatten() - first_row * y_step).index_select(0, of_row)
    start += torch.arange(len(of_row), dtype=dtype) * y_step
    length = width.expand_as(cells).flatten().index_select(0, of_row)
    first = length.cumsum(0, dtype=dtype) - length
    index = (start - first * x_step).index_select(
        0, torch.repeat_interleave(length)
    )
    index += torch.arange(len(index), dtype=dtype) * x_step
    offset = F.pad(cells.flatten().cumsum(0, dtype=dtype), (1, 0))
    sums = row_sum(table.planes, index, None, offset)
    sums = sums.view(*cells.shape, table.planes.size(-1))
    means = sums / cells.clamp(min=1).to(sums.dtype)[..., None]
    return means.permute(2, 3, 0, 1).contiguous()


@wrap_torch_function(lambda input, boxes, *_, **__: (input, boxes))
def ps_roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Average the cells of each bin of each RoI, from its own channels.

    Equals ``torchvision.ops.ps_roi_pool``, except that torchvision's forward
    (but not its backward) ignores the map's last row and column. As there, a
    non-empty box that rounds to no cell is one cell. Arguments, result, errors
    and the RoIs that give zeros are as in :func:`ps_roi_align`; integral
    images are in float64.
    """
    ph, pw = to_pair(output_size)
    channels = check_map(input, (ph, pw), spatial_scale)
    if input.is_meta:
        return input.new_empty(len(to_rois(boxes)), channels, ph, pw)
    valid, image, box = read_rois(boxes, input, spatial_scale)
    sides = []
    for axis, bins, length in ((1, ph, input.size(2)), (0, pw, input.size(3))):
        first, last = _edges(box[:, axis], box[:, axis + 2], bins, length)
        sides.append((first, torch.where(valid, last, first)))
    pool = _sum_cells if is_eager_cpu(input) else _sum_corners
    return pool(input, image, *sides).to(input.dtype)


class PSRoIPool(PSRoIModule):
    """See :func:`ps_roi_pool`."""

    op = staticmethod(ps_roi_pool)

    def __init__(
        self, output_size: int | Sequence[int], spatial_scale: float = 1.0
    ) -> None:
        super().__init__(output_size, spatial_scale)
