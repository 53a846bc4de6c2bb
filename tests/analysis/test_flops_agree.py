"""Multiply-adds against two other counters, on every family's smallest."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch.utils.flop_counter import FlopCounterMode

from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.backbones.zoo import NETWORKS, build_classifier


def smallest_of_each_family() -> list[str]:
    found = {}
    for name, row in NETWORKS.items():
        family = row.config['type'], row.config.get('with_se')
        width = row.config.get('widen_factor', 1)
        found[family] = min(found.get(family, (width, name)), (width, name))
    return [name for _, name in found.values()]


@pytest.mark.parametrize('name', smallest_of_each_family())
def test_three_counters_agree_within_a_percent(name):
    network, image = build_classifier(name).eval(), torch.randn(1, 3, 64, 64)
    recorded = record(network, lambda: network(image))
    flops = sum(op.work.flops for op in recorded)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    # PyTorch's counter takes a multiply-add for two.
    assert flops == pytest.approx(counter.get_total_flops() / 2, rel=0.01)
    analyzer = FlopAnalyzer(network, image)
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    # mmengine's counts norms and pooling besides.
    products = {'conv', 'linear', 'matmul', 'addmm', 'bmm', 'einsum'}
    counted = sum(
        count
        for operator, count in analyzer.by_operator().items()
        if operator in products
    )
    assert flops == pytest.approx(counted, rel=0.01)
