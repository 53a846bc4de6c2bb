import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis.alternatives import Trial, prepared
from mmdet_shufflenetv2.analysis.broken_guidelines import (
    find_breaches,
    price_breaches,
)
from mmdet_shufflenetv2.analysis.layers import layers_of
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.measure.setting import Setting


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return torch.cat((self.left(x), self.right(x)), 1)


class Slice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(x.chunk(2, 1)[0])


# A network that breaks exactly one rule, and in which layers.
CASES = {
    'G1': (nn.Sequential(nn.Conv2d(8, 32, 1)), ['0']),
    'G2': (nn.Sequential(nn.Conv2d(8, 8, 1, groups=2)), ['0']),
    'G3': (Branches(), ['left', 'right']),
    'G4': (nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()), ['1']),
    'layout': (Slice(), ['conv']),
}
KEPT = {
    'balanced': nn.Sequential(nn.Conv2d(8, 8, 1)),
    'depthwise': nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)),
    'kernel 3x3': nn.Sequential(nn.Conv2d(8, 32, 3)),
    'series': nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)),
}


def layers(network, layout=torch.contiguous_format):
    x = torch.randn(2, 8, 16, 16).contiguous(memory_format=layout)
    return layers_of(network, record(network, lambda: network(x)))


@pytest.mark.parametrize('rule', CASES)
def test_one_rule_broken_is_found_and_no_other(rule):
    network, where = CASES[rule]
    # Of a batch a slice has gaps in either layout.
    found_layers = layers(network)
    found = find_breaches(found_layers)
    assert {breach.rule for breach in found} == {rule}
    assert [found_layers[b.layer].name for b in found] == where
    assert all(breach.reason and breach.instead for breach in found)


@pytest.mark.parametrize('network', KEPT.values(), ids=KEPT)
def test_guidelines_that_are_kept_are_not_reported(network):
    assert find_breaches(layers(network)) == []


@pytest.mark.parametrize('rule', ['G1', 'G2', 'G3', 'layout'])
def test_replacements_do_the_same_work_and_keep_the_guideline(rule):
    network, _ = CASES[rule]
    found_layers = layers(network)
    for breach in find_breaches(found_layers):
        own = found_layers[breach.layer]
        times = own.branches if rule == 'G3' else 1
        conv = breach.trial.convolution
        assert conv.flops == pytest.approx(
            times * own.convolution.flops, rel=0.15
        )
        assert conv.kernel_size == own.convolution.kernel_size
        if rule in ('G1', 'G2'):
            assert conv.groups == 1
            assert conv.in_channels == pytest.approx(conv.out_channels, abs=1)
        if rule == 'layout':
            assert own.window.has_gaps
            assert not breach.trial.window.has_gaps


def test_replacements_fill_blocks_of_channels_as_the_layer_does():
    network = nn.Sequential(nn.Conv2d(8, 16, 1))
    (breach,) = find_breaches(layers(network))
    # The square root of 128 is 11.3: 8 and 16 are too far from it.
    assert breach.trial.convolution.in_channels == 12
    wide = Branches()
    wide.left = nn.Conv2d(8, 128, 3, padding=1)
    trial = next(
        b.trial for b in find_breaches(layers(wide)) if b.rule == 'G3'
    )
    # 8 and 128 times the square root of 2 are 11.3 and 181.
    assert trial.convolution.in_channels == 12
    assert trial.convolution.out_channels == 184


def test_depthwise_branches_become_a_wider_depthwise_layer():
    network = Branches()
    network.left = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    found_layers = layers(network)
    trial = next(
        b.trial for b in find_breaches(found_layers) if b.rule == 'G3'
    )
    assert trial.convolution.is_depthwise
    assert trial.convolution.in_channels == 16


@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
def test_replacements_are_tried_in_the_layout_of_the_layer(layout):
    (breach,) = find_breaches(layers(CASES['G1'][0], layout))
    is_last = layout == torch.channels_last
    assert breach.trial.window.channels_last == is_last


@pytest.mark.parametrize('rule', ['G1', 'G2', 'G3', 'layout'])
def test_layer_and_replacement_can_be_run_alone(rule):
    found_layers = layers(CASES[rule][0])
    breach = find_breaches(found_layers)[0]
    own = found_layers[breach.layer]
    for trial in (Trial(own.convolution, own.window), breach.trial):
        out = prepared(trial, Setting())()
        conv = trial.convolution
        assert out.shape == (conv.batch, conv.out_channels, *conv.out_size)


def test_a_transposed_layer_can_be_run_alone():
    network = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2))
    (layer,) = layers(network)
    out = prepared(Trial(layer.convolution, layer.window), Setting())()
    assert out.shape == (2, 4, 32, 32)


def test_a_price_is_the_replaced_share_of_the_time_in_the_network():
    found_layers = layers(CASES['G1'][0])
    breaches = find_breaches(found_layers)
    (price,) = price_breaches(
        breaches, found_layers, [10.0], lambda own, other: (4.0, 3.0)
    )
    # 8 x 32 channels against 16 x 16: as many multiply-adds.
    assert price.ms == pytest.approx(10.0 * (1 - 3 / 4))
    assert '4 ms alone, 3 ms with 16 -> 16 channels' in price.how


def test_a_replacement_of_more_work_is_scaled_down():
    found_layers = layers(CASES['G3'][0])
    breaches = find_breaches(found_layers)
    ms = [6.0] * len(found_layers)
    price, _ = price_breaches(
        breaches, found_layers, ms, lambda own, other: (4.0, 8.0)
    )
    conv = breaches[0].trial.convolution
    times = found_layers[0].convolution.flops / conv.flops
    assert price.ms == pytest.approx(6.0 * (1 - 8.0 * times / 4.0))


def test_elementwise_work_costs_what_it_takes():
    found_layers = layers(CASES['G4'][0])
    breaches = find_breaches(found_layers)
    (price,) = price_breaches(
        breaches, found_layers, [10.0, 0.25], lambda own, other: None
    )
    assert price.ms == 0.25
    assert price.own_ms is None


def test_a_replacement_that_does_not_fit_has_no_price():
    found_layers = layers(CASES['G1'][0])
    breaches = find_breaches(found_layers)
    (price,) = price_breaches(
        breaches, found_layers, [10.0], lambda own, other: None
    )
    assert price.ms is None
    assert 'does not fit in memory' in price.how


def test_when_time_is_over_the_quickest_layers_have_no_price():
    found_layers = layers(CASES['G3'][0])
    breaches = find_breaches(found_layers)
    ms = [1.0 + index for index in range(len(found_layers))]
    over = iter([False, True])
    first, second = price_breaches(
        *(breaches, found_layers, ms, lambda own, other: (4.0, 3.0)),
        is_over=lambda: next(over),
    )
    assert first.breach.layer > second.breach.layer
    assert first.ms is not None
    assert second.how == 'not measured: no time was left'
