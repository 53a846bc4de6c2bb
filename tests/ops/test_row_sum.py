"""Sums of table rows against the sparse matrices written out."""

import pytest
import torch

from mmdet_shufflenetv2.ops import row_sum as module
from mmdet_shufflenetv2.ops.row_sum import Bags, row_sum

PLANES, ROWS, CHANNELS, BAGS = 2, 12, 5, 9


def problem(
    dtype=torch.float64, index_dtype=torch.int32, weighted=True, most=8
):
    generator = torch.Generator().manual_seed(0)
    shape = (PLANES, 3, 4, CHANNELS)
    table = torch.randn(shape, generator=generator, dtype=dtype)
    # Some bags are empty.
    taps = torch.randint(most + 1, (PLANES * BAGS,), generator=generator)
    total = int(taps.sum())
    offset = torch.cat([taps.new_zeros(1), taps.cumsum(0)])
    return table, Bags(
        torch.randint(ROWS, (total,), generator=generator).to(index_dtype),
        torch.randn(total, generator=generator, dtype=dtype)
        if weighted
        else None,
        offset.to(index_dtype),
    )


def dense(table, bags):
    """The sparse matrices written out, times the table."""
    matrix = torch.zeros(PLANES * BAGS, ROWS, dtype=table.dtype)
    for bag in range(PLANES * BAGS):
        for tap in range(int(bags.offset[bag]), int(bags.offset[bag + 1])):
            weight = 1 if bags.weight is None else bags.weight[tap]
            matrix[bag, int(bags.index[tap])] += weight
    return matrix.view(PLANES, BAGS, ROWS) @ table.flatten(1, -2)


@pytest.mark.parametrize('order', [None, (3, 0, 1, 2), (1, 3, 2, 0)])
@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('sorted_together', [True, False])
@pytest.mark.parametrize(
    'dtype,index_dtype',
    [(torch.float32, torch.int32), (torch.float64, torch.int64)],
)
def test_equals_dense_product_forward_and_backward(
    dtype, index_dtype, sorted_together, weighted, order, monkeypatch
):
    monkeypatch.setattr(module, 'RADIX_SORTED', 2**15 * sorted_together)
    table, bags = problem(dtype, index_dtype, weighted)
    if order is not None:
        inverse = [order.index(axis) for axis in range(4)]
        table = table.permute(order).contiguous().permute(inverse)
    table.requires_grad_()
    output = row_sum(table, *bags)
    expected = dense(table, bags)
    torch.testing.assert_close(output, expected)
    grad = torch.randn(output.shape, dtype=dtype)
    (table_grad,) = torch.autograd.grad(output, table, grad)
    (expected_grad,) = torch.autograd.grad(expected, table, grad)
    torch.testing.assert_close(table_grad, expected_grad)
    # No copy is left to do for what the map was laid out from.
    assert table_grad.stride() == table.stride()


def test_operators_pass_the_checks_of_custom_operators():
    table, bags = problem(torch.float32)
    ops = torch.ops.mmdet_shufflenetv2
    leaf = table.clone().requires_grad_()
    torch.library.opcheck(ops.row_sum.default, (leaf, *bags))
    grad = torch.randn(PLANES, BAGS, CHANNELS)
    torch.library.opcheck(
        ops.row_sum_backward.default,
        (grad, *bags, list(table.shape), [3, 0, 1, 2]),
    )
