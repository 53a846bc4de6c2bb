"""Weighted sums of table rows: the one kernel behind every PSRoI op.

Shapes: R rows of C values, B bags of T taps. ``out[b] = sum_t weight[b, t] *
table[index[b, t]]``, that is ``A @ table`` with a sparse matrix A.

Forward is an embedding bag. Its own backward is slow on CPUs, so there the
backward is another embedding bag, over ``A^T``: one radix sort of the taps by
row, then each table row gathers its bags, in parallel and without atomics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Schemas are spelt out because torch 2.4 cannot read them from list[Tensor].
_NAMESPACE = 'mmdet_shufflenetv2'
_GROUPS = 'Tensor[] index, Tensor[] weight'


def weighted_row_sum(
    table: Tensor, index: list[Tensor], weight: list[Tensor]
) -> Tensor:
    """Sum weighted rows of a table for each bag; differentiable in ``table``.

    Bags come in groups, so that bags of few taps need no padding to the most.

    Args:
        table: ``(R, C)`` floating point.
        index: for each group a ``(B_i, T_i)`` integer tensor of rows.
        weight: the same shapes, in the table's dtype.

    Returns:
        ``(sum B_i, C)``.
    """
    if exporting():
        return torch.cat(
            [
                plain_row_sum(table, i, w)
                for i, w in zip(index, weight, strict=True)
            ]
        )
    return _row_sum(table, index, weight)


def plain_row_sum(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Do one group's sums as Gather, Mul and ReduceSum, which any format has.

    It needs B * T * C values of memory, so it is for export only.
    """
    rows = table[index.flatten()].view(*index.shape, table.size(1))
    return (rows * weight[..., None]).sum(1)


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
    sums = [
        F.embedding_bag(i, table, mode='sum', per_sample_weights=w)
        for i, w in zip(index, weight, strict=True)
        if i.numel()
    ]
    if len(sums) == 1:
        return sums[0]
    return torch.cat(sums) if sums else table.new_zeros(0, table.size(1))


@torch.library.custom_op(
    f'{_NAMESPACE}::row_sum_backward',
    mutates_args=(),
    schema=f'(Tensor grad, {_GROUPS}, SymInt rows) -> Tensor',
)
def _row_sum_backward(
    grad: Tensor, index: list[Tensor], weight: list[Tensor], rows: int
) -> Tensor:
    if not grad.numel() or not rows:
        return grad.new_zeros(rows, grad.size(1))
    on_cpu = grad.device.type == 'cpu'
    backward = gather_backward if on_cpu else scatter_backward
    return backward(grad, index, weight, rows)


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
    return table.new_empty(sum(i.size(0) for i in index), table.size(1))


@_row_sum_backward.register_fake
def _(
    grad: Tensor, index: list[Tensor], weight: list[Tensor], rows: int
) -> Tensor:
    return grad.new_empty(rows, grad.size(1))


def _keep(ctx, inputs, output) -> None:
    table, index, weight = inputs
    ctx.groups, ctx.rows = len(index), table.size(0)
    ctx.save_for_backward(*index, *weight)


def _differentiate(ctx, grad: Tensor):
    saved = list(ctx.saved_tensors)
    index, weight = saved[: ctx.groups], saved[ctx.groups :]
    none = [None] * ctx.groups
    return _row_sum_backward(grad, index, weight, ctx.rows), none, none


def _keep_backward(ctx, inputs, output) -> None:
    _, index, weight, _ = inputs
    ctx.groups = len(index)
    ctx.save_for_backward(*index, *weight)


def _differentiate_backward(ctx, grad: Tensor):
    # A^T @ g is linear in g: its gradient is A @ grad.
    saved = list(ctx.saved_tensors)
    index, weight = saved[: ctx.groups], saved[ctx.groups :]
    none = [None] * ctx.groups
    return _row_sum(grad, index, weight), none, none, None


_row_sum.register_autograd(_differentiate, setup_context=_keep)
_row_sum_backward.register_autograd(
    _differentiate_backward, setup_context=_keep_backward
)
