import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.convolution import Convolution
from mmdet_shufflenetv2.analysis.operations import (
    Operation,
    operation_of,
)


class Works(TorchDispatchMode):
    """Appends a description of each operation to a list."""

    def __init__(self, found: list[Operation]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found.append(operation_of(func, args, kwargs or {}, out))
        return out


def works(function, *args, **kwargs) -> list[Operation]:
    found = []
    with torch.no_grad(), Works(found):
        function(*args, **kwargs)
    return [work for work in found if work.kind != operations.VIEW]


def test_convolution_is_the_layer_it_was_called_with():
    x, weight = torch.randn(2, 6, 9, 5), torch.randn(4, 3, 3, 1)
    (work,) = works(F.conv2d, x, weight, stride=2, padding=(1, 0), groups=2)
    assert work.convolution == Convolution(
        *(6, 4, (9, 5), (5, 3), (3, 1), 2, 2, False, (2, 2), (1, 0), (1, 1)),
        x.stride(),
    )
    # 3 channels in a group and 3 weights for each of 2 x 4 x 15 values.
    assert work.flops == 3 * 3 * 120
    assert work.bytes == 4 * (2 * 6 * 45 + 36 + 120)
    # A transposed convolution applies its kernel per input position.
    (work,) = works(F.conv_transpose2d, x, torch.randn(6, 2, 2, 2), stride=2)
    assert work.flops == 90 * 6 * 2 * 4


def test_views_are_free_and_a_copy_is_not():
    x = torch.randn(1, 4, 2, 2)
    for view in (
        lambda: x.view(2, 8),
        lambda: x.permute(0, 2, 3, 1),
        lambda: x.chunk(2, 1),
        lambda: x.expand(3, 4, 2, 2),
        lambda: x[:0],
    ):
        assert works(view) == []
    (copy,) = works(x.transpose(1, 2).contiguous)
    assert copy.kind == operations.DATA
    assert copy.bytes == 2 * 16 * 4


@pytest.mark.parametrize(
    'function',
    [
        lambda x: torch.cdist(x, x),
        lambda x: torch.conv_tbc(x, torch.ones(1, 4, 2), torch.ones(2)),
        torch.linalg.qr,
        lambda x: torch.linalg.cholesky_ex(x.mT @ x),
    ],
)
def test_work_without_a_formula_is_listed(function):
    assert None in [
        work.flops for work in works(function, torch.ones(1, 30, 4))
    ]


X = torch.arange(24.0).view(6, 4)
MASK = X > 11
ROWS = torch.tensor([1, 5])
# Bytes of the whole tensor, of two rows, of their indices and of a mask.
WHOLE, TWO, INDEX, FLAGS = 24 * 4, 2 * 4 * 4, 2 * 8, 24


@pytest.mark.parametrize(
    'function, expected',
    [
        # Selected elements are read and written, whatever the table's size.
        (lambda x: F.embedding(ROWS, x), INDEX + 2 * TWO),
        (lambda x: x[ROWS], INDEX + 2 * TWO),
        (lambda x: x.gather(0, ROWS[:, None]), INDEX + 2 * 2 * 4),
        # The mask selects half of the elements.
        (lambda x: x[MASK], FLAGS + WHOLE),
        # A new tensor is written completely, from the old one and the mask.
        (lambda x: x.masked_fill(MASK, 0.0), FLAGS + 2 * WHOLE),
        (lambda x: x.index_put((ROWS,), X[:2]), INDEX + TWO + 2 * WHOLE),
        # In place, only selected elements are written.
        (lambda x: x.masked_fill_(MASK, 0.0), FLAGS + WHOLE // 2),
        (lambda x: x.index_put_((ROWS,), X[:2]), INDEX + 2 * TWO),
        (lambda x: x.index_put_((MASK,), torch.zeros(())), FLAGS + 4 + 48),
        (
            lambda x: x.index_put_((ROWS,), X[:2], accumulate=True),
            INDEX + 3 * TWO,
        ),
        (lambda x: x.index_add_(0, ROWS, X[:2]), INDEX + 3 * TWO),
        (lambda x: x.fill_(1.0), WHOLE),
        (lambda x: x.add_(X), 3 * WHOLE),
    ],
)
def test_bytes_are_what_must_be_read_and_written(function, expected):
    assert works(function, X.clone())[-1].bytes == expected
