"""Weighted sums of table rows: the one kernel behind every PSRoI op.

Shapes: P planes of R rows of C values; B bags per plane, T taps in all bags
together. A bag sums rows of its own plane, one per tap: ``A[p] @ table[p]``
with sparse matrices A.

The forward pass is an embedding bag. Its own backward is slow on CPUs, so
there the backward pass is another embedding bag, over ``A^T``: a radix sort
orders the taps by row, then each table row gathers its bags, in parallel and
without atomics.

A plane whose rows are not contiguous is copied just before its rows are read,
so that they are still in cache.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

#: From this many integers on, PyTorch uses radix sort.
RADIX_SORTED = 2**15
_BAGS = 'Tensor index, Tensor? weight, Tensor offset'


class Bags(NamedTuple):
    """The sparse matrices, plane after plane and bag after bag.

    ``index`` (T,) is each tap's row in its plane and ``weight`` (T,) its
    weight (None means 1); ``offset`` (P * B + 1,) is each bag's first tap,
    then T.
    """

    index: Tensor
    weight: Tensor | None
    offset: Tensor


def exporting() -> bool:
    """Whether a graph is being recorded for another runtime."""
    # torch 2.4 to 2.6 cannot distinguish exporting from compiling.
    is_exporting = getattr(torch.compiler, 'is_exporting', bool)
    return (
        torch.jit.is_tracing()
        or is_exporting()
        or torch.onnx.is_in_onnx_export()
    )


def _by_plane(bags: Bags, planes: int) -> list[Bags]:
    """The bags of each plane, with offsets from the plane's first tap."""
    if planes == 1:
        return [bags]
    count = (bags.offset.numel() - 1) // planes
    ends = bags.offset[::count].tolist() if count else [0] * (planes + 1)
    return [
        Bags(
            bags.index[first:last],
            None if bags.weight is None else bags.weight[first:last],
            bags.offset[p * count : (p + 1) * count + 1] - first,
        )
        for p, (first, last) in enumerate(pairwise(ends))
    ]


def _gather(rows: Tensor, bags: Bags) -> Tensor:
    if not bags.index.numel():
        return rows.new_zeros(bags.offset.numel() - 1, rows.size(1))
    return F.embedding_bag(
        bags.index,
        rows,
        bags.offset,
        mode='sum',
        per_sample_weights=bags.weight,
        include_last_offset=True,
    )


@torch.library.custom_op(
    'mmdet_shufflenetv2::row_sum',
    mutates_args=(),
    schema=f'(Tensor table, {_BAGS}) -> Tensor',
)
def _row_sum(
    table: Tensor, index: Tensor, weight: Tensor | None, offset: Tensor
) -> Tensor:
    # Detached, or the embedding bag would prepare for a backward pass.
    bags = _by_plane(Bags(index, weight, offset), table.size(0))
    # Contiguous, because strided rows are slow to read.
    return torch.stack(
        [
            _gather(plane.flatten(0, -2).contiguous(), own)
            for plane, own in zip(table.detach(), bags, strict=True)
        ]
    )


@torch.library.custom_op(
    'mmdet_shufflenetv2::row_sum_backward',
    mutates_args=(),
    schema=f'(Tensor grad, {_BAGS}, SymInt[] size, int[] order) -> Tensor',
)
def _row_sum_backward(
    grad: Tensor,
    index: Tensor,
    weight: Tensor | None,
    offset: Tensor,
    size: list[int],
    order: list[int],
) -> Tensor:
    table = _empty(grad, size, order)
    if not grad.numel() or not index.numel():
        return table.zero_()
    on_cpu = grad.device.type == 'cpu'
    backward = gather_backward if on_cpu else scatter_backward
    planes, rows = size[0], math.prod(size[1:-1])
    bags = Bags(index, weight, offset)
    if planes > 1 and index.numel() < planes * RADIX_SORTED:
        # Treat all planes as one table, so that one sort covers all taps.
        count = (offset.numel() - 1) // planes
        shift = torch.arange(planes, dtype=index.dtype) * rows
        shift = shift.repeat_interleave(offset[::count].diff())
        bags = bags._replace(index=index + shift)
        flat = backward(grad.flatten(0, 1), bags, planes * rows)
        return table.copy_(flat.view(size))
    if planes == 1 and order == sorted(order):
        return backward(grad[0], bags, rows).view(size)
    for p, own in enumerate(_by_plane(bags, planes)):
        table[p].copy_(backward(grad[p], own, rows).view(size[1:]))
    return table


def _empty(like: Tensor, size: list[int], order: list[int]) -> Tensor:
    """An empty tensor of ``size`` with its axes in memory in ``order``."""
    table = like.new_empty([size[axis] for axis in order])
    return table.permute([order.index(axis) for axis in range(len(order))])


def _bag_of_taps(bags: Bags) -> Tensor:
    count = bags.offset.numel() - 1
    numbers = torch.arange(count, dtype=bags.index.dtype).to(bags.index.device)
    return numbers.repeat_interleave(
        bags.offset.diff(), output_size=bags.index.numel()
    )


def scatter_backward(grad: Tensor, bags: Bags, rows: int) -> Tensor:
    """Return ``A^T @ grad`` by atomic additions; never synchronises."""
    taken = grad[_bag_of_taps(bags)]
    if bags.weight is not None:
        taken = taken * bags.weight[:, None]
    return grad.new_zeros(rows, grad.size(1)).index_add_(0, bags.index, taken)


def gather_backward(grad: Tensor, bags: Bags, rows: int) -> Tensor:
    """Return ``A^T @ grad`` by a sort and a gather, which is fast on CPUs."""
    index, weight, _ = bags
    end = torch.bincount(index, minlength=rows).cumsum(0)
    order = index.sort(stable=True).indices
    transposed = Bags(
        _bag_of_taps(bags).index_select(0, order),
        None if weight is None else weight.index_select(0, order),
        F.pad(end, (1, 0)).to(index.dtype),
    )
    return _gather(grad.contiguous(), transposed)


@_row_sum.register_fake
def _(table: Tensor, index: Tensor, weight: Tensor | None, offset: Tensor):
    bags = (offset.numel() - 1) // table.size(0)
    return table.new_empty(table.size(0), bags, table.size(-1))


@_row_sum_backward.register_fake
def _(grad: Tensor, index, weight, offset, size: list[int], order: list[int]):
    return _empty(grad, size, order)


def _keep(ctx, inputs, output) -> None:
    table, *bags = inputs
    ctx.size = table.shape
    # The gradient takes the map's layout, which saves a copy.
    step = table.stride()
    ctx.order = sorted(range(table.dim()), key=lambda axis: -step[axis])
    ctx.save_for_backward(*bags)


def _differentiate(ctx, grad: Tensor):
    grad = _row_sum_backward(grad, *ctx.saved_tensors, ctx.size, ctx.order)
    return grad, None, None, None


_row_sum.register_autograd(_differentiate, setup_context=_keep)


def row_sum(
    table: Tensor, index: Tensor, weight: Tensor | None, offset: Tensor
) -> Tensor:
    """Sum weighted rows of a table ``(P, ..., C)`` to ``(P, B, C)``.

    Differentiable in the table, which may have any memory layout. The other
    arguments are those of `Bags`.
    """
    bags = index, weight, offset
    if torch.compiler.is_compiling():
        return _row_sum(table, *bags)
    # Custom operators lose forward-mode tangents, but the sum is linear.
    table, tangent = forward_ad.unpack_dual(table)
    sums = _row_sum(table, *bags)
    if tangent is None:
        return sums
    return forward_ad.make_dual(sums, _row_sum(tangent, *bags))
