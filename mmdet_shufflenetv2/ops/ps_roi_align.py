"""Position-sensitive RoI align (Light-Head R-CNN, arXiv 1711.07264).

Shapes: N images, K RoIs, C output channels, ``ph`` by ``pw`` bins, S samples
per bin and side.

A bin averages S x S bilinear samples. The samples form a grid and bilinear
weights are separable, so a bin is ``sum_ij wy[i] wx[j] map[y[i], x[j]]``: a
weighted sum over 2S rows and 2S columns that do not depend on the map. The sum
and its gradient are in ``row_sum.py``.

The defaults give the values of ``torchvision.ops.ps_roi_align``. RoIs that
are NaN, infinite, empty (``x2 <= x1`` or ``y2 <= y1``) or outside of the map
give zeros and no gradient, whereas torchvision crashes, returns NaN, or
samples an empty box along a line or backwards. The original Light-Head R-CNN
code takes the largest of 2 x 2 samples, with a cell's value at its corner:
``sampling_ratio=2, mode='max', aligned=False``.

Computation is in float32, or float64 for float64 maps. Boxes get no gradient.
With ``sampling_ratio <= 0`` the grid depends on the values of the boxes, so
they are read on the host, which synchronises a GPU and breaks the graph under
``torch.compile``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import wrap_torch_function

from .bins import Group, Taps, as_table, pool_groups
from .rois import (
    PSRoIModule,
    check_map,
    is_eager_cpu,
    read_rois,
    require,
    to_pair,
    to_rois,
)

MODES = ('avg', 'max')
# (number of bins, cells of the map) along y, then along x.
Sides = tuple[tuple[int, int], tuple[int, int]]


def _side_taps(
    edges: tuple[Tensor, Tensor],
    side: tuple[int, int],
    samples: int | Tensor,
    maximum: bool,
    merge: bool,
) -> Taps:
    """Return the cells around the samples along one side, with weights.

    As in torchvision, a sample up to one cell outside of the map takes the
    border's value, and one farther away is zero.

    Args:
        edges: first and last coordinates ``(K,)`` of the RoIs, in cells.
        side: number of bins, and cells of the map.
        samples: samples per bin, ``(K,)`` if RoIs differ.
        maximum: whether samples are compared instead of averaged.
        merge: whether a bin's samples share S + 1 cells instead of having 2
            each; valid for averages of samples at most a cell apart.
    """
    (start, end), (bins, length) = edges, side
    differ = isinstance(samples, Tensor)
    most = samples
    if differ:
        cap = 2 * length + 4
        most = int(samples.max().clamp(max=cap)) if len(samples) else 1
    like = dict(device=start.device, dtype=start.dtype)
    step = torch.arange(most, **like).view(-1, 1, 1)
    bin_size = (end - start) / bins
    bin_start = torch.arange(bins, **like)[:, None] * bin_size + start
    valid = 1
    if differ:
        # RoIs much larger than the map skip samples far outside of it.
        skipped = ((-1 - bin_start) * samples / bin_size - 0.5).floor()
        skipped = skipped.clamp(min=0).minimum((samples - most).clamp(min=0))
        step = step + torch.where(samples > most, skipped, 0)
        valid = step < samples
        step = step.minimum(samples - 1)
    position = bin_start + (step + 0.5) * bin_size / samples
    share = ((position >= -1) & (position <= length)).to(position.dtype)
    if not maximum:
        share = share * valid / samples
    # (samples with their own cells, samples that share cells, bins, K)
    together = most if merge else 1
    position = position.clamp(0, length - 1).unflatten(0, (-1, together))
    share = share.unflatten(0, (-1, together))
    window = torch.arange(together + 1, device=start.device, dtype=torch.int32)
    # Positions are not negative, so the conversion rounds down.
    cell = position[:, :1].int() + window.view(-1, 1, 1)
    distance = (position[:, :, None] - cell[:, None]).abs()
    weight = (1 - distance).clamp(min=0) * share[:, :, None]
    # Cells past the last one are clamped; their weight is 0.
    return Taps(cell.clamp(max=length - 1), weight.sum(1))


def _taps(
    valid: Tensor,
    box: Tensor,
    sides: Sides,
    samples: tuple[int, int] | tuple[Tensor, Tensor],
    maximum: bool,
    merge: bool,
) -> tuple[Taps, Taps]:
    """The (y, x) taps of boxes ``(K, 4)`` in cells; weight 0 if invalid."""
    x1, y1, x2, y2 = box.unbind(1)
    y = _side_taps((y1, y2), sides[0], samples[0], maximum, merge)
    x = _side_taps((x1, x2), sides[1], samples[1], maximum, merge)
    return Taps(y.cell, y.weight * valid), x


@torch.compiler.disable
def _adaptive_groups(
    valid: Tensor, box: Tensor, sides: Sides, maximum: bool
) -> list[Group]:
    """Group RoIs by the sampling grid that their size requires."""
    size = box[:, 2:] - box[:, :2]
    y, x = (
        (size[:, axis] / bins).ceil().clamp(min=1)
        for axis, (bins, _) in zip((1, 0), sides, strict=True)
    )
    # Sizes within a group differ by up to a factor of 2, so that small RoIs
    # are not padded to the largest. Samples are at most a cell apart.
    level = torch.frexp(y.maximum(x).float() - 0.5).exponent
    groups = []
    for value in level.unique().tolist() or [0]:
        m = (level == value).nonzero().squeeze(1)
        samples = y[m], x[m]
        taps = _taps(valid[m], box[m], sides, samples, maximum, not maximum)
        groups.append((m, *taps))
    return groups


def _groups(
    valid: Tensor,
    box: Tensor,
    sides: Sides,
    sampling_ratio: int,
    maximum: bool,
) -> list[Group]:
    """Taps of all RoIs, split into groups if that saves work."""
    if sampling_ratio <= 0:
        return _adaptive_groups(valid, box, sides, maximum)
    samples = (sampling_ratio, sampling_ratio)
    if maximum or sampling_ratio == 1 or not is_eager_cpu(box) or not len(box):
        return [(None, *_taps(valid, box, sides, samples, maximum, False))]
    # RoIs whose samples are at most a cell apart can merge taps.
    (ph, _), (pw, _) = sides
    limit = box.new_tensor([pw, ph]) * sampling_ratio
    dense = (box[:, 2:] - box[:, :2] <= limit).all(dim=1)
    return [
        (m, *_taps(valid[m], box[m], sides, samples, False, merge))
        for merge, member in ((True, dense), (False, ~dense))
        if len(m := member.nonzero().squeeze(1))
    ]


@wrap_torch_function(lambda input, boxes, *_, **__: (input, boxes))
def ps_roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    *,
    mode: str = 'avg',
    aligned: bool = True,
) -> Tensor:
    """Pool each bin of each RoI from its own channels by bilinear sampling.

    Args:
        input: ``(N, C*ph*pw, H, W)``.
        boxes: ``(K, 5)`` of (batch index, x1, y1, x2, y2), or one ``(L, 4)``
            per image, in image pixels.
        output_size: bins, (height, width) or one number for both.
        spatial_scale: cells of the map per pixel.
        sampling_ratio: S, samples per bin and side; if not positive,
            ``ceil`` of the bin's size in cells.
        mode: ``'avg'``, or ``'max'`` for a bin's largest sample (samples
            outside of the map count as zero).
        aligned: whether a cell's value is at its centre, half a cell from
            its corner, or at its corner (``False``).

    Returns:
        ``(K, C, ph, pw)`` in the input's dtype.

    Raises:
        ValueError: a wrong shape, type or option; on a CPU also a batch
            index out of range (elsewhere such a RoI gives zeros).
    """
    ph, pw = to_pair(output_size)
    channels = check_map(input, (ph, pw), spatial_scale)
    fits = isinstance(sampling_ratio, int)
    require(fits, 'sampling_ratio', 'an int', sampling_ratio)
    require(mode in MODES, 'mode', f'one of {MODES}', mode)
    if input.is_meta:
        return input.new_empty(len(to_rois(boxes)), channels, ph, pw)
    valid, image, box = read_rois(boxes, input, spatial_scale)
    box = box - 0.5 if aligned else box
    maximum = mode == 'max'
    sides = (ph, input.size(2)), (pw, input.size(3))
    groups = _groups(valid, box, sides, sampling_ratio, maximum)
    table = as_table(input, (ph, pw))
    return pool_groups(table, image, groups, maximum).to(input.dtype)


class PSRoIAlign(PSRoIModule):
    """See :func:`ps_roi_align`."""

    op = staticmethod(ps_roi_align)

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = -1,
        *,
        mode: str = 'avg',
        aligned: bool = True,
    ) -> None:
        options = dict(
            sampling_ratio=sampling_ratio, mode=mode, aligned=aligned
        )
        super().__init__(output_size, spatial_scale, **options)
