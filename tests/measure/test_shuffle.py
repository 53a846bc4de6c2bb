import pytest
import torch

from mmdet_shufflenetv2.measure.networks import place
from mmdet_shufflenetv2.measure.setting import LAYOUTS, Setting
from mmdet_shufflenetv2.measure.shuffle import build_network, with_plain_units


@pytest.mark.parametrize('layout', LAYOUTS)
def test_both_ways_compute_the_same(layout):
    torch.manual_seed(0)
    setting = Setting(layout=layout)
    ours = place(build_network(), setting)
    plain = place(with_plain_units(build_network()), setting)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for a, b in zip(ours.train()(x), plain.train()(x), strict=True):
        torch.testing.assert_close(a, b)
        a.sum().backward(retain_graph=True)
        b.sum().backward(retain_graph=True)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)
