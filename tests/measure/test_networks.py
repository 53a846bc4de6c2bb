import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_shufflenetv2.backbones.zoo import build_classifier
from mmdet_shufflenetv2.measure import networks
from mmdet_shufflenetv2.measure.networks import (
    captured,
    fold,
    inference,
    maps_in_turn,
    prepare,
    settle_norms,
)
from mmdet_shufflenetv2.measure.setting import LAYOUTS, Setting

SMALL = 'shufflenet_v2_x0_5'


def norms(network):
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    monkeypatch.setattr(networks, 'POOL_BYTES', 4 * 2**10)
    networks._pool.cache_clear()
    yield
    networks._pool.cache_clear()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_inputs_are_random_and_rotate(layout, precision):
    setting = Setting(layout=layout, precision=precision)
    inputs = maps_in_turn((2, 3, 4, 5), setting)
    count = networks.POOL_BYTES // (setting.dtype.itemsize * 2 * 3 * 4 * 5)
    maps = [inputs() for _ in range(count)]
    assert not any(torch.equal(maps[0], x) for x in maps[1:])
    for x in maps:
        assert x.shape == (2, 3, 4, 5)
        assert x.dtype == setting.dtype
        assert x.is_contiguous(memory_format=LAYOUTS[layout])
        assert 0.5 < x.float().std() < 1.5
    assert torch.equal(inputs(), maps[0])


@pytest.mark.parametrize(
    'name, left',
    [
        (SMALL, 0),
        ('shufflenet_v1_x0_5_g3', 0),
        ('mobilenet_v2_x0_15', 0),
        ('xception_x0_5', 0),
        # Norms come before their convolutions, except in the stem.
        ('densenet_x0_5', 29),
    ],
)
def test_folding_does_not_change_the_output(name, left):
    torch.manual_seed(0)
    network = build_classifier(name)
    x = torch.randn(4, 3, 64, 64)
    settle_norms(network, x)
    network.eval()
    with torch.no_grad():
        before = network(x)
        fold(network)
        torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-3)
    assert len(norms(network)) == left


class Misleading(nn.Module):
    """The norm follows the convolution only in the list of children."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(x).relu())


def test_a_norm_before_its_convolution_is_not_folded():
    order = ('norm', 'act', 'conv')
    module = ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=order)
    fold(module.eval())
    assert len(norms(module)) == 1
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match='changes the output'):
        prepare(Misleading(), Setting(mode='folded'))


@pytest.mark.parametrize('mode', ['eager', 'folded'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_prepared_network_keeps_layout_and_scale_of_values(layout, mode):
    setting = Setting(layout=layout, mode=mode, precision='bf16')
    network = prepare(build_classifier(SMALL), setting)
    seen = []
    network.backbone.register_forward_hook(lambda *args: seen.append(args[-1]))
    result = inference(network, (2, 3, 64, 64), setting)()
    ((feature,),) = seen
    # With PyTorch's initial weights, maps vanish from layer to layer.
    assert 0.3 < feature.float().std() < 3
    assert feature.is_contiguous(memory_format=LAYOUTS[layout])
    assert result.dtype == torch.bfloat16
    assert result.is_inference()
    assert not network.training
    assert all(norm.momentum == 0.1 for norm in norms(network))


@pytest.mark.gpu
@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_graph_computes_what_the_network_does(layout):
    setting = Setting(device='cuda', layout=layout, mode='graph')
    network = prepare(build_classifier(SMALL), setting)
    inputs = maps_in_turn((2, 3, 64, 64), setting)
    replay = captured(network, inputs())
    for _ in range(3):
        x = inputs()
        with torch.inference_mode():
            expected = network(x)
        torch.testing.assert_close(replay(x), expected, rtol=1e-3, atol=1e-3)
