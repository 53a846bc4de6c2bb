"""Multiply-adds by hand, and against mmengine's counter."""

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
_ATTENTION = 64 * 4 * 8 * 8 + 2 * 64 * 64 * 8


@pytest.mark.parametrize(
    'function, shapes, expected',
    [
        (torch.mv, [(3, 5), (5,)], 15),
        (torch.dot, [(5,), (5,)], 5),
        (torch.addmv, [(3,), (3, 5), (5,)], 15),
        (torch.matmul, [(2, 3, 5), (2, 5, 7)], 210),
        (F.linear, [(2, 3, 5), (7, 5), (7,)], 210),
        (F.scaled_dot_product_attention, [(2, 4, 3, 8)] * 3, 2 * 4 * 9 * 16),
    ],
)
def test_products_and_convolutions_by_hand(function, shapes, expected):
    inputs = list(map(torch.randn, shapes))
    assert macs(function, *inputs) == expected
    with torch.inference_mode():
        assert macs(function, *inputs) == expected


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(
    'layer, expected',
    [
        (
            nn.LSTM(8, 6, num_layers=2, bidirectional=True),
            64 * 2 * 4 * 6 * ((8 + 6) + (12 + 6)),
        ),
        (nn.GRU(8, 8), 64 * 3 * 8 * (8 + 8)),
    ],
)
def test_recurrent_layers_by_hand(layer, expected, device):
    layer = layer.to(device)
    assert macs(layer, torch.zeros(64, 1, 8, device=device)) == expected


@pytest.mark.parametrize('fast', [True, False])
def test_attention_costs_the_same_on_every_path(fast):
    x = torch.randn(1, 64, 8)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    # An odd number of heads disables PyTorch's fast path.
    layers = [nn.MultiheadAttention(8, n, batch_first=True) for n in (2, 1)]
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        assert macs(encoder, x) == _ATTENTION + 64 * 2 * 8 * 16
        for layer in layers:
            attend = layer.eval()
            found = macs(lambda: attend(x, x, x, need_weights=False))  # noqa: B023
            assert found == _ATTENTION
        # A mask adds nothing.
        mask = torch.zeros(1, 64, dtype=torch.bool)
        mask[:, 60:] = True
        found = macs(lambda: encoder(x, src_key_padding_mask=mask))
        assert found == _ATTENTION + 64 * 2 * 8 * 16
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_pooling_of_regions_and_deformable_convolution():
    x = torch.randn(1, 2 * 9, 8, 8)
    rois = torch.tensor([[0, 0.0, 0.0, 6.0, 6.0]])
    # 2 channels of 3x3 bins; at most 4 cells for each of 2x2 samples.
    assert 0 < macs(ps_roi_align, x, rois, 3, 1.0, 2) <= 2 * 9 * 16
    align = torchvision.ops.roi_align
    assert macs(align, x, rois, 2, 1.0, 2) == 18 * 4 * 4 * 4
    assert macs(align, x, rois, 2, 1.0, -1) == 0
    weight, offset = torch.randn(6, 18, 3, 3), torch.zeros(1, 18, 6, 6)
    deform = torchvision.ops.deform_conv2d
    assert macs(deform, x, offset, weight) == 36 * 9 * 18 * 6


def smallest_of_each_family() -> list[str]:
    found = {}
    for name, row in NETWORKS.items():
        family = row.config['type'], row.config.get('with_se')
        width = row.config.get('widen_factor', 1)
        found[family] = min(found.get(family, (width, name)), (width, name))
    return [name for _, name in found.values()]


# mmengine has to trace a real network, which takes seconds. The rest of a
# family has only more or wider layers of the same types.
@pytest.mark.parametrize('name', smallest_of_each_family())
def test_every_family_agrees_with_the_counter_of_mmengine(name):
    network, image = build_classifier(name).eval(), torch.randn(1, 3, 64, 64)
    analyzer = FlopAnalyzer(network, image)
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    # mmengine also counts norms and pooling.
    products = {'conv', 'linear', 'matmul', 'addmm', 'bmm', 'einsum'}
    counted = sum(
        count
        for operator, count in analyzer.by_operator().items()
        if operator in products
    )
    assert counted == pytest.approx(macs(network, image), rel=0.01)
