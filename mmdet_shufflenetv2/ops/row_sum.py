"""Weighted sums of table rows: the one kernel behind every PSRoI op.

Shapes: P planes of R rows of C values each; B bags of T taps in each plane.
``out[p, b] = sum_t weight[p, b, t] * table[p, index[p, b, t]]``, that is
``A[p] @ table[p]`` with sparse matrices A.

Forward is an embedding bag. Its own backward is slow on CPUs, so there the
backward is another embedding bag, over ``A^T``: one radix sort of the taps by
row, then each table row gathers its bags, in parallel and without atomics.

A plane whose rows are not together in memory is copied when its turn comes,
so that it is still in cache when its rows are read.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Schemas are spelt out because torch 2.4 cannot read them from list[Tensor].
_NAMESPACE = 'mmdet_shufflenetv2'
_GROUPS = 'Tensor[] index, Tensor[] weight'
_LAYOUT = 'SymInt[] size, int[] order'


def weighted_row_sum(
    table: Tensor, index: list[Tensor], weight: list[Tensor]
) -> Tensor:
    """Sum weighted rows of a table for each bag; differentiable in ``table``.

    Bags come in groups, so that bags of few taps need no padding to the most.

    Args:
        table: ``(P, ..., C)`` floating point, R rows in each plane, in any
            order of memory.
        index: for each group a ``(P, B_i, T_i)`` integer tensor of rows.
        weight: the same shapes, in the table's dtype.

    Returns:
        ``(P, sum B_i, C)``.
    """
    if exporting():
        return _sum_planes(plain_row_sum, table, index, weight)
    return _row_sum(table, index, weight)


def plain_row_sum(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum rows by Gather, Mul and ReduceSum, which any format has.

    It needs B * T * C values of memory, so it is for export only.

    Args:
        rows: ``(R, C)``.
        index, weight: ``(B, T)``.
    """
    # As int64, which every operator of ONNX that gathers takes.
    taken = rows.index_select(0, index.flatten().long())
    taken = taken.view(*index.shape, rows.size(1))
    return (taken * weight[..., None]).sum(1)


def bag_row_sum(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum rows as :func:`plain_row_sum`, by an embedding bag."""
    if not index.numel():
        return rows.new_zeros(index.size(0), rows.size(1))
    return F.embedding_bag(index, rows, mode='sum', per_sample_weights=weight)


def _sum_planes(
    row_sum: Callable[[Tensor, Tensor, Tensor], Tensor],
    table: Tensor,
    index: list[Tensor],
    weight: list[Tensor],
) -> Tensor:
    sums = []
    for p, plane in enumerate(table):
        rows = plane.flatten(0, -2)
        sums += [
            row_sum(rows, i[p], w[p])
            for i, w in zip(index, weight, strict=True)
        ]
    bags = sum(i.size(1) for i in index)
    sums = torch.cat(sums) if len(sums) > 1 else sums[0]
    return sums.view(table.size(0), bags, table.size(-1))


def exporting() -> bool:
    """Whether a graph is being recorded for another runtime."""
    # torch 2.4 to 2.6 cannot tell an export from a compilation.
    is_exporting = getattr(torch.compiler, 'is_exporting', bool)
    return (
        torch.jit.is_tracing()
        or is_exporting()
        or torch.onnx.is_in_onnx_export()
    )


@torch.library.custom_op(
    f'{_NAMESPACE}::row_sum',
    mutates_args=(),
    schema=f'(Tensor table, {_GROUPS}) -> Tensor',
)
def _row_sum(
    table: Tensor, index: list[Tensor], weight: list[Tensor]
) -> Tensor:
    # Detached, for an embedding bag prepares for a backward otherwise.
    return _sum_planes(bag_row_sum, table.detach(), index, weight)


@torch.library.custom_op(
    f'{_NAMESPACE}::row_sum_backward',
    mutates_args=(),
    schema=f'(Tensor grad, {_GROUPS}, {_LAYOUT}) -> Tensor',
)
def _row_sum_backward(
    grad: Tensor,
    index: list[Tensor],
    weight: list[Tensor],
    size: list[int],
    order: list[int],
) -> Tensor:
    if not grad.numel():
        return _empty(grad, size, order).zero_()
    on_cpu = grad.device.type == 'cpu'
    backward = gather_backward if on_cpu else scatter_backward
    planes, rows = size[0], math.prod(size[1:-1])

    def plane(p: int) -> Tensor:
        i, w = [i[p] for i in index], [w[p] for w in weight]
        return backward(grad[p], i, w, rows).view(size[1:])

    if planes == 1 and order == sorted(order):
        return plane(0)[None]
    table = _empty(grad, size, order)
    for p in range(planes):
        table[p].copy_(plane(p))
    return table


def _empty(like: Tensor, size: list[int], order: list[int]) -> Tensor:
    """Return a tensor of that size with its axes in that order in memory."""
    table = like.new_empty([size[axis] for axis in order])
    return table.permute([order.index(axis) for axis in range(len(order))])


def scatter_backward(
    grad: Tensor, index: list[Tensor], weight: list[Tensor], rows: int
) -> Tensor:
    """Return ``A^T @ grad`` by atomic additions, without a look at values."""
    table = grad.new_zeros(rows, grad.size(1))
    first = 0
    for i, w in zip(index, weight, strict=True):
        bags = grad[first : first + i.size(0), None] * w[..., None]
        table.index_add_(0, i.flatten(), bags.flatten(0, 1))
        first += i.size(0)
    return table


def gather_backward(
    grad: Tensor, index: list[Tensor], weight: list[Tensor], rows: int
) -> Tensor:
    """Return ``A^T @ grad`` by a sort and a gather: the fast way on CPUs."""
    row = torch.cat([i.flatten() for i in index])
    end = torch.bincount(row, minlength=rows).cumsum(0)
    offset = F.pad(end, (1, 0)).to(row.dtype)
    order = row.sort(stable=True).indices
    if len(index) == 1:
        bag = order.to(row.dtype).div(index[0].size(1), rounding_mode='floor')
    else:
        taps = [torch.full_like(i[:, 0], i.size(1)) for i in index]
        taps = torch.cat(taps)
        bag = torch.arange(grad.size(0), dtype=row.dtype)
        bag = bag.repeat_interleave(taps).index_select(0, order)
    return F.embedding_bag(
        bag,
        grad.contiguous(),
        offset,
        mode='sum',
        per_sample_weights=torch.cat(
            [w.flatten() for w in weight]
        ).index_select(0, order),
        include_last_offset=True,
    )


@_row_sum.register_fake
def _(table: Tensor, index: list[Tensor], weight: list[Tensor]) -> Tensor:
    bags = sum(i.size(1) for i in index)
    return table.new_empty(table.size(0), bags, table.size(-1))


@_row_sum_backward.register_fake
def _(
    grad: Tensor,
    index: list[Tensor],
    weight: list[Tensor],
    size: list[int],
    order: list[int],
) -> Tensor:
    return _empty(grad, size, order)


def _keep(ctx, inputs, output) -> None:
    table, index, weight = inputs
    ctx.groups, ctx.size = len(index), table.shape
    # The gradient takes the map's own layout: no copy afterwards.
    step = table.stride()
    ctx.order = sorted(range(table.dim()), key=lambda axis: -step[axis])
    ctx.save_for_backward(*index, *weight)


def _differentiate(ctx, grad: Tensor):
    saved = list(ctx.saved_tensors)
    index, weight = saved[: ctx.groups], saved[ctx.groups :]
    none = [None] * ctx.groups
    grad = _row_sum_backward(grad, index, weight, ctx.size, ctx.order)
    return grad, none, none


def _keep_backward(ctx, inputs, output) -> None:
    _, index, weight, _, _ = inputs
    ctx.groups = len(index)
    ctx.save_for_backward(*index, *weight)


def _differentiate_backward(ctx, grad: Tensor):
    # A^T @ g is linear in g: its gradient is A @ grad.
    saved = list(ctx.saved_tensors)
    index, weight = saved[: ctx.groups], saved[ctx.groups :]
    none = [None] * ctx.groups
    return _row_sum(grad, index, weight), none, none, None, None


_row_sum.register_autograd(_differentiate, setup_context=_keep)
_row_sum_backward.register_autograd(
    _differentiate_backward, setup_context=_keep_backward
)
