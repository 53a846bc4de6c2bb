import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.operations import Work, work_of
from mmdet_shufflenetv2.measure.convolution import Convolution


class Works(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found: list[Work] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found.append(work_of(func, args, kwargs or {}, out))
        return out


def works(function, *args, **kwargs) -> list[Work]:
    with torch.no_grad(), Works() as mode:
        function(*args, **kwargs)
    return mode.found


def only(function, *args, **kwargs) -> Work:
    (found,) = (
        work
        for work in works(function, *args, **kwargs)
        if work.kind != operations.VIEW
    )
    return found


def test_convolution_is_the_layer_it_was_called_with():
    x, weight = torch.randn(2, 6, 9, 5), torch.randn(4, 3, 3, 1)
    work = only(F.conv2d, x, weight, stride=2, padding=(1, 0), groups=2)
    assert work.convolution == Convolution(
        *(6, 4, (9, 5), (5, 3), (3, 1), 2, 2, False, (2, 2), (1, 0), (1, 1)),
        x.stride(),
    )
    assert work.flops == work.convolution.flops
    assert work.bytes == 4 * work.convolution.memory_access


def test_views_are_free_and_a_copy_is_not():
    x = torch.randn(1, 4, 2, 2)
    for view in (
        lambda: x.view(2, 8),
        lambda: x.permute(0, 2, 3, 1),
        lambda: x.chunk(2, 1),
        lambda: x.expand(3, 4, 2, 2),
        lambda: torch.zeros(0, 4)[:0],
    ):
        assert works(view)[-1] == Work(operations.VIEW, 0, 0)
    copy = only(x.transpose(1, 2).contiguous)
    assert copy.kind == operations.DATA
    assert copy.bytes == 2 * 16 * 4


X = torch.arange(24.0).view(6, 4)
MASK = X > 11
ROWS = torch.tensor([1, 5])
# Bytes of the whole, of two rows, of their indices, of a mask.
WHOLE, TWO, INDEX, FLAGS = 24 * 4, 2 * 4 * 4, 2 * 8, 24


def fresh() -> torch.Tensor:
    return X.clone()


@pytest.mark.parametrize(
    'function, expected',
    [
        # What is taken is read and written, whatever the table holds.
        (lambda x: F.embedding(ROWS, x), INDEX + 2 * TWO),
        (lambda x: x[ROWS], INDEX + 2 * TWO),
        (lambda x: x.gather(0, ROWS[:, None]), INDEX + 2 * 2 * 4),
        # Half of the elements are chosen by the mask.
        (lambda x: x[MASK], FLAGS + WHOLE),
        # A new tensor is written whole, from the old one and the mask.
        (lambda x: x.masked_fill(MASK, 0.0), FLAGS + 2 * WHOLE),
        (lambda x: x.index_put((ROWS,), X[:2]), INDEX + TWO + 2 * WHOLE),
        # In place only what is chosen is written.
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
    x = fresh()
    found = [w for w in works(function, x) if w.kind != operations.VIEW]
    assert found[-1].bytes == expected


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'function',
    [
        lambda x: x.gather(1, x.argmax(1, True)),
        lambda x: x[x > 0],
        lambda x: torch.sparse.mm(x.to_sparse(), x.T),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
        lambda x: torch.nested.nested_tensor([x, x[:1]]) * 2,
        lambda x: F.conv2d(torch.empty(0, 3, 4, 4), torch.ones(2, 3, 1, 1)),
    ],
)
def test_no_operation_is_too_unusual(function):
    for work in works(function, torch.randn(6, 4)):
        assert work.bytes >= 0
        assert work.flops is None or work.flops >= 0


@pytest.mark.parametrize(
    'function, kind',
    [
        (lambda x: F.max_pool2d(x, 2), operations.POOLING),
        (lambda x: torch.cat((x, x), 1), operations.DATA),
        (lambda x: F.interpolate(x, scale_factor=2), operations.DATA),
        (lambda x: x[0, 0] @ x[0, 0], operations.MATRIX),
        (lambda x: torch.native_channel_shuffle(x, 2), operations.SHUFFLE),
        (lambda x: x.flatten().sort(), operations.OTHER),
    ],
)
def test_kinds(function, kind):
    found = works(function, torch.randn(1, 4, 4, 4))
    assert kind in {work.kind for work in found}
    assert {work.kind for work in found} <= {kind, operations.VIEW}
