"""Multiply-adds by hand, and against the papers and mmengine's counter."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, build_classifier
from mmdet_shufflenetv2.measure.flops import macs
from mmdet_shufflenetv2.ops import ps_roi_align

# 64 tokens of 8 channels.
_PROJECTIONS = 64 * 4 * 8 * 8
_SCORES = 2 * 64 * 64 * 8


@pytest.mark.parametrize(
    'function, shapes, expected',
    [
        (torch.mm, [(3, 5), (5, 7)], 105),
        (torch.mv, [(3, 5), (5,)], 15),
        (torch.dot, [(5,), (5,)], 5),
        (torch.addmv, [(3,), (3, 5), (5,)], 15),
        (torch.matmul, [(2, 3, 5), (2, 5, 7)], 210),
        (F.linear, [(2, 3, 5), (7, 5), (7,)], 210),
        (F.scaled_dot_product_attention, [(2, 4, 3, 8)] * 3, 2 * 4 * 9 * 16),
        (F.conv1d, [(1, 4, 8), (2, 4, 3)], 6 * 3 * 4 * 2),
        (F.conv3d, [(1, 4, 3, 3, 3), (2, 4, 2, 2, 2)], 8 * 8 * 4 * 2),
        (F.conv_transpose2d, [(1, 3, 4, 4), (3, 5, 2, 2)], 16 * 3 * 5 * 4),
        (torch.add, [(3,), (3,)], 0),
    ],
)
def test_products_and_convolutions_by_hand(function, shapes, expected):
    assert macs(function, *map(torch.randn, shapes)) == expected


def test_a_grouped_convolution_reads_its_own_group_only():
    conv = nn.Conv2d(6, 4, (3, 1), stride=2, padding=(1, 0), groups=2)
    assert macs(conv, torch.randn(2, 6, 9, 5)) == 2 * 15 * 3 * 3 * 4


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(
    'layer, expected',
    [
        (nn.LSTM(8, 8), 64 * 4 * 8 * (8 + 8)),
        (
            nn.LSTM(8, 6, num_layers=2, bidirectional=True),
            64 * 2 * 4 * 6 * ((8 + 6) + (12 + 6)),
        ),
        (nn.GRU(8, 8), 64 * 3 * 8 * (8 + 8)),
        (nn.RNN(8, 8), 64 * 8 * (8 + 8)),
    ],
)
def test_recurrent_layers_by_hand(layer, expected, device):
    layer = layer.to(device)
    assert macs(layer, torch.zeros(64, 1, 8, device=device)) == expected


@pytest.mark.parametrize('fast', [True, False])
@pytest.mark.parametrize(
    'layer, expected',
    [
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            _PROJECTIONS + _SCORES + 64 * 2 * 8 * 16,
        ),
        (nn.MultiheadAttention(8, 2, batch_first=True), None),
        # An odd number of heads keeps PyTorch off its fast path.
        (nn.MultiheadAttention(8, 1, batch_first=True), None),
    ],
)
def test_attention_costs_the_same_on_every_path(layer, expected, fast):
    x = torch.randn(1, 64, 8)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        if expected is None:
            run = layer.eval()
            found = macs(lambda: run(x, x, x, need_weights=False))
            expected = _PROJECTIONS + _SCORES
        else:
            found = macs(layer.eval(), x)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert found == expected


def test_inference_mode_counts_the_same():
    network, x = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 9, 9)
    with torch.inference_mode():
        assert macs(network, x) == 49 * 27 * 4


def test_pooling_of_regions():
    x = torch.randn(1, 2 * 9, 8, 8)
    rois = torch.tensor([[0, 0.0, 0.0, 6.0, 6.0]])
    # 2 channels of 3x3 bins; at most 4 cells for each of 2x2 samples.
    assert 0 < macs(ps_roi_align, x, rois, 3, 1.0, 2) <= 2 * 9 * 16
    align = torchvision.ops.roi_align
    assert macs(align, x, rois, 2, 1.0, 2) == 18 * 4 * 4 * 4
    assert macs(align, x, rois, 2, 1.0, -1) == 0
    theirs = torchvision.ops.ps_roi_align
    assert macs(theirs, x, rois, 3, 1.0, 2) == 2 * 9 * 4 * 4


def test_deformable_convolution_counts_as_a_plain_one():
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(6, 4, 3, 3)
    deform = torchvision.ops.deform_conv2d
    found = macs(
        lambda: deform(x, torch.zeros(1, 18, 5, 5), weight, padding=1)
    )
    assert found == 25 * 9 * 4 * 6


def smallest_of_each_family() -> list[str]:
    found = {}
    for name, row in NETWORKS.items():
        family = row.config['type'], row.config.get('with_se')
        width = row.config.get('widen_factor', 1)
        found[family] = min(found.get(family, (width, name)), (width, name))
    return [name for _, name in found.values()]


# What mmengine's counter calls convolutions and matrix products.
PRODUCTS = {'conv', 'linear', 'matmul', 'addmm', 'bmm', 'einsum'}


# mmengine has to trace a network that computes, which takes seconds; what
# else a family has is more or wider layers of the same types.
@pytest.mark.parametrize('name', smallest_of_each_family())
def test_every_family_has_as_many_as_mmengine_counts(name):
    network, image = build_classifier(name).eval(), torch.randn(1, 3, 64, 64)
    analyzer = FlopAnalyzer(network, image)
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    # It counts norms and pooling besides.
    counted = sum(
        count
        for operator, count in analyzer.by_operator().items()
        if operator in PRODUCTS
    )
    assert counted == pytest.approx(macs(network, image), rel=0.01)


def test_every_published_network_costs_its_convolutions_and_products():
    for name in NETWORKS:
        with torch.device('meta'):
            network = build_classifier(name).eval()
            image = torch.empty(1, 3, 64, 64)
        products = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(
                    lambda layer, _, out, products=products: products.append(
                        layer.weight[0].numel() * out.numel()
                    )
                )
        counted = macs(network, image)
        assert counted == sum(products), name
