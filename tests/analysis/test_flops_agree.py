"""Multiply-adds against two other counters."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch.utils.flop_counter import FlopCounterMode

from mmdet_shufflenetv2.analysis.layers import not_counted
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.backbones.zoo import NETWORKS, build_classifier

# What mmengine's counter calls convolutions and matrix products.
PRODUCTS = {'conv', 'linear', 'matmul', 'addmm', 'bmm', 'einsum'}


def smallest_of_each_family() -> list[str]:
    found = {}
    for name, row in NETWORKS.items():
        family = row.config['type'], row.config.get('with_se')
        width = row.config.get('widen_factor', 1)
        found[family] = min(found.get(family, (width, name)), (width, name))
    return [name for _, name in found.values()]


def counted_by_pytorch(network, image) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    # It takes a multiply-add for two.
    return counter.get_total_flops() / 2


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_has_as_many_as_pytorch_counts(name):
    # Shapes are enough, so nothing is computed.
    with torch.device('meta'):
        network = build_classifier(name).eval()
        image = torch.empty(1, 3, 64, 64)
    recorded = record(network, lambda: network(image))
    assert not not_counted(recorded)
    flops = sum(op.work.flops for op in recorded)
    assert flops == pytest.approx(counted_by_pytorch(network, image), rel=0.01)


# mmengine's has to trace a network that computes, which takes seconds; what
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
    assert counted == pytest.approx(
        counted_by_pytorch(network, image), rel=0.01
    )
