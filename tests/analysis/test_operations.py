import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.operations import Work, work_of
from mmdet_shufflenetv2.measure.convolution import Convolution
from mmdet_shufflenetv2.ops import ps_roi_align


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
        6, 4, (9, 5), (5, 3), kernel_size=(3, 1), groups=2, batch=2
    )
    assert work.flops == work.convolution.flops
    assert work.bytes == 4 * work.convolution.memory_access
    assert work.window.stride == (2, 2)
    assert work.window.padding == (1, 0)


def test_one_and_three_dimensional_convolutions_are_counted():
    line = only(F.conv1d, torch.randn(1, 4, 8), torch.randn(2, 4, 3))
    assert line.flops == 6 * 3 * 4 * 2
    assert line.convolution.kernel_size == (1, 3)
    volume = only(
        F.conv3d, torch.randn(1, 4, 3, 3, 3), torch.randn(2, 4, 2, 2, 2)
    )
    assert volume.flops == 8 * 8 * 4 * 2
    assert volume.convolution is None


def test_transposed_convolution_counts_input_positions():
    work = only(
        F.conv_transpose2d,
        torch.randn(1, 3, 4, 4),
        torch.randn(3, 5, 2, 2),
        stride=2,
    )
    assert work.flops == 16 * 3 * 5 * 4
    assert work.convolution.transposed


def test_deformable_convolution_counts_as_a_plain_one():
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(6, 4, 3, 3)
    offset = torch.zeros(1, 18, 5, 5)
    *_, work = works(
        torchvision.ops.deform_conv2d, x, offset, weight, padding=1
    )
    assert work.kind == operations.CONVOLUTION
    assert work.flops == 25 * 9 * 4 * 6


@pytest.mark.parametrize(
    'function, shapes, flops',
    [
        (torch.mm, [(3, 5), (5, 7)], 105),
        (torch.matmul, [(2, 3, 5), (2, 5, 7)], 210),
        (F.linear, [(2, 3, 5), (7, 5), (7,)], 210),
        (F.scaled_dot_product_attention, [(2, 4, 3, 8)] * 3, 2 * 4 * 9 * 16),
    ],
)
def test_matrix_products_by_hand(function, shapes, flops):
    found = works(function, *(torch.randn(shape) for shape in shapes))
    assert sum(work.flops or 0 for work in found) == flops
    assert operations.MATRIX in {work.kind for work in found}


# 64 tokens of 8 channels.
_PROJECTIONS = 64 * 4 * 8 * 8
_SCORES = 2 * 64 * 64 * 8


@pytest.mark.parametrize(
    'layer, flops',
    [
        (nn.LSTM(8, 8, batch_first=True), 64 * 4 * 8 * (8 + 8)),
        (
            nn.LSTM(8, 6, num_layers=2, bidirectional=True),
            64 * 2 * 4 * 6 * ((8 + 6) + (12 + 6)),
        ),
        (nn.GRU(8, 8, batch_first=True), 64 * 3 * 8 * (8 + 8)),
        (nn.RNN(8, 8), 64 * 8 * (8 + 8)),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
            _PROJECTIONS + _SCORES + 64 * 2 * 8 * 16,
        ),
    ],
)
def test_layers_that_are_one_operation_by_hand(layer, flops):
    shape = (1, 64, 8) if getattr(layer, 'batch_first', True) else (64, 1, 8)
    found = works(layer, torch.randn(shape))
    assert None not in [work.flops for work in found]
    assert sum(work.flops for work in found) == flops


@pytest.mark.parametrize('heads', [2, 1])
def test_attention_costs_the_same_on_every_path(heads):
    """An odd number of heads keeps PyTorch off its fast path."""
    layer = nn.MultiheadAttention(8, heads, batch_first=True).eval()
    x = torch.randn(1, 64, 8)
    found = works(layer, x, x, x, need_weights=False)
    assert sum(work.flops for work in found) == _PROJECTIONS + _SCORES


def test_what_is_not_known_to_multiply_nothing_is_not_counted():
    found = works(torch.fft.rfft2, torch.randn(4, 4))
    assert None in [work.flops for work in found]


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


def test_an_expanded_input_counts_once():
    bias = torch.randn(1, 4, 1, 1).expand(2, 4, 8, 8)
    work = only(torch.add, torch.randn(2, 4, 8, 8), bias)
    assert work.kind == operations.ELEMENTWISE
    assert work.bytes == 4 * (512 + 4 + 512)


def test_in_place_work_reads_and_writes():
    work = only(torch.randn(8).relu_)
    assert work.kind == operations.ELEMENTWISE
    assert work.bytes == 2 * 8 * 4


def test_a_lookup_reads_what_it_takes_not_the_table():
    table, rows = torch.randn(1000, 4), torch.tensor([1, 5])
    work = only(F.embedding, rows, table)
    assert work.bytes == 2 * 8 + 2 * (2 * 4 * 4)


@pytest.mark.parametrize(
    'function, kind',
    [
        (lambda x: F.max_pool2d(x, 2), operations.POOLING),
        (lambda x: F.adaptive_avg_pool2d(x, 1), operations.POOLING),
        (lambda x: F.hardswish(x), operations.ELEMENTWISE),
        (lambda x: F.softmax(x, 1), operations.ELEMENTWISE),
        (lambda x: F.group_norm(x, 2), operations.ELEMENTWISE),
        (lambda x: torch.cat((x, x), 1), operations.DATA),
        (lambda x: F.interpolate(x, scale_factor=2), operations.DATA),
        (lambda x: F.pad(x, (1, 1)), operations.DATA),
        (lambda x: torch.native_channel_shuffle(x, 2), operations.SHUFFLE),
        (lambda x: x.flatten().sort(), operations.OTHER),
    ],
)
def test_kinds(function, kind):
    found = works(function, torch.randn(1, 4, 4, 4))
    assert kind in {work.kind for work in found}
    assert {work.kind for work in found} <= {kind, operations.VIEW}


def test_position_sensitive_pooling_is_counted():
    x = torch.randn(1, 2 * 9, 8, 8)
    rois = torch.tensor([[0, 0.0, 0.0, 6.0, 6.0]])
    found = works(ps_roi_align, x, rois, 3, 1.0, 2)
    # 2 channels of 3x3 bins; at most 4 cells for each of 2x2 samples.
    assert 0 < sum(work.flops or 0 for work in found) <= 2 * 9 * 16


def test_roi_align_is_counted_when_its_samples_are_known():
    x, rois = torch.randn(1, 3, 8, 8), torch.tensor([[0, 0.0, 0.0, 6.0, 6.0]])
    align = torchvision.ops.roi_align
    assert only(align, x, rois, 2, 1.0, 2).flops == 3 * 4 * 4 * 4
    assert only(align, x, rois, 2, 1.0, -1).flops is None


def test_suppression_is_not_counted_and_says_so():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    work = only(torchvision.ops.nms, boxes, torch.ones(1), 0.5)
    assert work.flops is None


def test_a_slice_of_channels_has_gaps_and_layouts_are_told():
    weight = torch.randn(2, 2, 1, 1)
    whole = torch.randn(1, 4, 3, 3).to(memory_format=torch.channels_last)
    sliced = only(F.conv2d, whole.chunk(2, 1)[1], weight).window
    assert sliced.has_gaps
    assert sliced.channels_last
    dense = only(F.conv2d, torch.randn(1, 2, 3, 3), weight).window
    assert not dense.has_gaps
    assert not dense.channels_last
