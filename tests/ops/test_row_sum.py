import pytest
import torch

from mmdet_shufflenetv2.ops.row_sum import (
    bag_row_sum,
    gather_backward,
    plain_row_sum,
    scatter_backward,
    weighted_row_sum,
)

PLANES, ROWS, CHANNELS = 2, 12, 5


def problem(dtype=torch.float64, index_dtype=torch.int32):
    generator = torch.Generator().manual_seed(0)
    shape = (PLANES, 3, 4, CHANNELS)
    table = torch.randn(shape, generator=generator, dtype=dtype)
    index, weight = [], []
    for bags, taps in ((7, 3), (4, 8), (0, 2), (1, 1)):
        shape = (PLANES, bags, taps)
        i = torch.randint(ROWS, shape, generator=generator)
        index.append(i.to(index_dtype))
        weight.append(torch.randn(shape, generator=generator, dtype=dtype))
    return table, index, weight


def dense(table, index, weight):
    """The sparse matrices written out, times the table."""
    rows = []
    for i, w in zip(index, weight, strict=True):
        matrix = w.new_zeros(*i.shape[:2], ROWS)
        matrix = matrix.scatter_add(2, i.long(), w)
        rows.append(matrix @ table.flatten(1, -2))
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize('order', [None, (3, 0, 1, 2), (1, 3, 2, 0)])
@pytest.mark.parametrize('groups', [slice(None), slice(1), slice(2, 3)])
@pytest.mark.parametrize('index_dtype', [torch.int32, torch.int64])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_dense_product_forward_and_backward(
    dtype, index_dtype, groups, order
):
    table, index, weight = problem(dtype, index_dtype)
    index, weight = index[groups], weight[groups]
    if order is not None:
        inverse = [order.index(axis) for axis in range(4)]
        table = table.permute(order).contiguous().permute(inverse)
    table.requires_grad_()
    output = weighted_row_sum(table, index, weight)
    expected = dense(table, index, weight)
    torch.testing.assert_close(output, expected)
    grad = torch.randn(output.shape, dtype=dtype)
    (table_grad,) = torch.autograd.grad(output, table, grad)
    (expected_grad,) = torch.autograd.grad(expected, table, grad)
    torch.testing.assert_close(table_grad, expected_grad)
    # No copy is left to do for what the map was laid out from.
    assert table_grad.stride() == table.stride()


def test_plain_nodes_equal_the_kernel():
    table, index, weight = problem()
    for i, w in zip(index, weight, strict=True):
        args = table[0].flatten(0, 1), i[0], w[0]
        torch.testing.assert_close(plain_row_sum(*args), bag_row_sum(*args))


def test_row_that_no_bag_reads_gets_no_gradient():
    table = torch.ones(1, 4, 2, requires_grad=True)
    index = torch.tensor([[[0, 2], [2, 2]]], dtype=torch.int32)
    weight = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    weighted_row_sum(table, [index], [weight]).sum().backward()
    expected = torch.tensor([1.0, 0.0, 9.0, 0.0])[:, None].expand(4, 2)
    torch.testing.assert_close(table.grad[0], expected)


def test_both_ways_backward_are_equal():
    _, index, weight = problem()
    index, weight = [i[0] for i in index], [w[0] for w in weight]
    grad = torch.randn(12, CHANNELS, dtype=torch.float64)
    expected = scatter_backward(grad, index, weight, ROWS)
    output = gather_backward(grad, index, weight, ROWS)
    torch.testing.assert_close(output, expected)


def test_operators_pass_the_checks_of_custom_operators():
    table, index, weight = problem(torch.float32)
    ops = torch.ops.mmdet_shufflenetv2
    leaf = table.clone().requires_grad_()
    torch.library.opcheck(ops.row_sum.default, (leaf, index, weight))
    grad = torch.randn(PLANES, 12, CHANNELS)
    torch.library.opcheck(
        ops.row_sum_backward.default,
        (grad, index, weight, list(table.shape), [3, 0, 1, 2]),
    )
