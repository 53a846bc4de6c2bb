"""Pool bins of a position-sensitive map, given taps along rows and columns.

Shapes: N images, K RoIs, C output channels, ``ph`` by ``pw`` bins, S samples
per bin and side, T taps (weighted cells) per sample and side.

Everything is separable: a bin's cells are the product of rows and columns.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .row_sum import exporting, row_sum


class Taps(NamedTuple):
    """Cells and weights along one side, ``(S, T, bins, K)``."""

    cell: Tensor
    weight: Tensor


# Indices of RoIs (None for all), and their taps along y and x.
Group = tuple[Tensor | None, Taps, Taps]


class Table(NamedTuple):
    """A map as rows of C values, one row per (bin, image, y, x).

    ``planes`` (P, ..., C) is one plane with all bins, or ``P = ph`` planes
    with a row of bins each. ``strides`` count rows of the table along the
    rows of bins (0 if they are planes), bins, images, y and x.
    """

    planes: Tensor
    strides: tuple[int, int, int, int, int]

    @property
    def index_dtype(self) -> torch.dtype:
        """int32 if it suffices, which halves the index traffic."""
        few = self.planes[0, ..., 0].numel() < 2**31
        return torch.int32 if few and not exporting() else torch.int64


def split_bins(input: Tensor, bins: int) -> Tensor:
    """View ``(N, C * bins, H, W)`` as ``(bins, N, H, W, C)``."""
    return input.unflatten(1, (-1, bins)).permute(2, 0, 3, 4, 1)


def as_table(input: Tensor, bins: tuple[int, int]) -> Table:
    """View a map ``(N, C * ph * pw, H, W)`` as a table, in float32 at least.

    It is copied bin by bin later, so that neighbouring taps share cache lines;
    on CPUs one row of bins at a time, which fits into the cache.
    """
    input = input.to(torch.promote_types(input.dtype, torch.float32))
    (ph, pw), (batch, _, height, width) = bins, input.shape
    split = split_bins(input, ph * pw)
    plane = height * width
    step = (batch * plane, plane, width, 1)
    if input.device.type == 'cpu' and not exporting():
        return Table(split.unflatten(0, bins), (0, *step))
    return Table(split[None], (pw * batch * plane, *step))


def _taps_of_bags(
    table: Table, image: Tensor, y: Taps, x: Taps
) -> tuple[Tensor, Tensor]:
    """Return indices and weights ``(ph, pw, K * Sy * Sx * Ty * Tx)``."""
    bin_row_step, bin_step, image_step, y_step, x_step = table.strides
    dtype, device = table.index_dtype, image.device
    (sy, ty, ph, rois), (sx, tx, pw, _) = y.cell.shape, x.cell.shape
    ph_index = torch.arange(ph, dtype=dtype, device=device)[:, None]
    pw_index = torch.arange(pw, dtype=dtype, device=device)[:, None]
    row = ph_index * bin_row_step + image.to(dtype) * image_step
    row = row + y.cell.to(dtype) * y_step
    column = pw_index * bin_step + x.cell.to(dtype) * x_step

    def along(value: Tensor, is_row: bool) -> Tensor:
        # One small transpose per side gives the outer sums below a long
        # contiguous innermost axis instead of short loops.
        bins = value.size(2)
        value = value[:, None, :, None] if is_row else value[None, :, None]
        value = value.expand(sy, sx, ty, tx, bins, rois)
        value = value.reshape(sy * sx * ty * tx, bins * rois)
        return value.t().contiguous().view(bins, rois * value.size(0))

    index = along(row, True)[:, None] + along(column, False)
    weight = along(y.weight, True)[:, None] * along(x.weight, False)
    return index, weight


def pool_groups(
    table: Table, image: Tensor, groups: list[Group], maximum: bool = False
) -> Tensor:
    """Pool every bin of every RoI: ``(K, C, ph, pw)`` in the table's dtype.

    ``image`` (K,) is the image index of each RoI. RoIs of one group have the
    same number of samples and taps. ``maximum`` takes a bin's largest sample
    instead of the sum.
    """
    index, weight, shapes, starts, first = [], [], [], [], 0
    planes, channels = table.planes.size(0), table.planes.size(-1)
    for member, y, x in groups:
        (sy, ty, ph, rois), (sx, tx, pw, _) = y.cell.shape, x.cell.shape
        samples = sy * sx if maximum else 1
        own = image if member is None else image[member]
        i, w = _taps_of_bags(table, own, y, x)
        size = ph * pw // planes * i.size(2)
        index.append(i.view(planes, size))
        weight.append(w.view(planes, size))
        shapes.append((ph, pw, rois, samples, channels))
        taps = sy * sx * ty * tx // samples
        if exporting():
            # Every format has Gather, Mul and ReduceSum, but they store a
            # value per tap and channel. Exports have a single group.
            rows = table.planes[0].flatten(0, -2)
            taken = rows.index_select(0, i.flatten())
            taken = taken.view(-1, taps, channels) * w.view(-1, taps, 1)
            sums = taken.sum(1)[None]
            break
        starts.append(torch.arange(first, first + size, taps))
        first += size
    else:
        # Concatenate the groups within each plane.
        start = torch.arange(planes)[:, None] * first + torch.cat(starts)
        offset = F.pad(start.flatten(), (0, 1), value=planes * first)
        index, weight = (torch.cat(x, 1).flatten() for x in (index, weight))
        offset = offset.to(index.dtype).to(index.device)
        sums = row_sum(table.planes, index, weight, offset)
    pooled, first = [], 0
    for shape in shapes:
        bags = math.prod(shape[:-1]) // planes
        part = sums[:, first : first + bags].view(shape)
        first += bags
        part = part.max(dim=3).values if maximum else part.squeeze(3)
        pooled.append(part.permute(2, 3, 0, 1))
    if len(groups) == 1:
        return pooled[0].contiguous()
    order = torch.cat([member for member, _, _ in groups])
    return torch.cat(pooled).index_select(0, order.argsort())
