import pytest
import torch

from mmdet_shufflenetv2.ops.row_sum import (
    gather_backward,
    plain_row_sum,
    scatter_backward,
    weighted_row_sum,
)


def problem(dtype=torch.float64, index_dtype=torch.int32):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(13, 5, generator=generator, dtype=dtype)
    index, weight = [], []
    for bags, taps in ((7, 3), (4, 8), (0, 2), (1, 1)):
        i = torch.randint(13, (bags, taps), generator=generator)
        index.append(i.to(index_dtype))
        weight.append(
            torch.randn(bags, taps, generator=generator, dtype=dtype)
        )
    return table, index, weight


def dense(table, index, weight):
    """The sparse matrix written out, times the table."""
    rows = []
    for i, w in zip(index, weight, strict=True):
        matrix = w.new_zeros(len(i), len(table))
        rows.append(matrix.scatter_add(1, i.long(), w) @ table)
    return torch.cat(rows)


@pytest.mark.parametrize('groups', [slice(None), slice(1), slice(2, 3)])
@pytest.mark.parametrize('index_dtype', [torch.int32, torch.int64])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_dense_product_forward_and_backward(dtype, index_dtype, groups):
    table, index, weight = problem(dtype, index_dtype)
    index, weight = index[groups], weight[groups]
    table.requires_grad_()
    output = weighted_row_sum(table, index, weight)
    expected = dense(table, index, weight)
    torch.testing.assert_close(output, expected)
    grad = torch.randn(output.shape, dtype=dtype)
    torch.testing.assert_close(
        torch.autograd.grad(output, table, grad),
        torch.autograd.grad(expected, table, grad),
    )


def test_plain_nodes_equal_the_kernel():
    table, index, weight = problem()
    for i, w in zip(index, weight, strict=True):
        torch.testing.assert_close(
            plain_row_sum(table, i, w), weighted_row_sum(table, [i], [w])
        )


def test_row_that_no_bag_reads_gets_no_gradient():
    table = torch.ones(4, 2, requires_grad=True)
    index = torch.tensor([[0, 2], [2, 2]], dtype=torch.int32)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    weighted_row_sum(table, [index], [weight]).sum().backward()
    expected = torch.tensor([1.0, 0.0, 9.0, 0.0])[:, None].expand(4, 2)
    torch.testing.assert_close(table.grad, expected)


def test_both_ways_backward_are_equal():
    _, index, weight = problem()
    grad = torch.randn(12, 5, dtype=torch.float64)
    expected = scatter_backward(grad, index, weight, 13)
    output = gather_backward(grad, index, weight, 13)
    torch.testing.assert_close(output, expected)


def test_operators_pass_the_checks_of_custom_operators():
    table, index, weight = problem(torch.float32)
    table.requires_grad_()
    torch.library.opcheck(
        torch.ops.mmdet_shufflenetv2.row_sum.default, (table, index, weight)
    )
    grad = torch.randn(12, 5)
    torch.library.opcheck(
        torch.ops.mmdet_shufflenetv2.row_sum_backward.default,
        (grad, index, weight, 13),
    )
