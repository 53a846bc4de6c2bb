from dataclasses import replace

import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis.layers import layers_of
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.analysis.twins import (
    breaches_of,
    comparison,
    find_breaches,
    prepared,
)
from mmdet_shufflenetv2.measure.timing import Effort


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
        conv = breach.twin
        assert conv.flops == pytest.approx(
            times * own.convolution.flops, rel=0.15
        )
        assert conv.kernel_size == own.convolution.kernel_size
        if rule in ('G1', 'G2'):
            assert conv.groups == 1
            assert conv.in_channels == pytest.approx(conv.out_channels, abs=1)
        if rule == 'layout':
            assert own.convolution.has_gaps
            assert not breach.twin.has_gaps


def test_replacements_fill_blocks_of_channels_as_the_layer_does():
    network = nn.Sequential(nn.Conv2d(8, 16, 1))
    (breach,) = find_breaches(layers(network))
    # The square root of 128 is 11.3: 8 and 16 are too far from it.
    assert breach.twin.in_channels == 12
    wide = Branches()
    wide.left = nn.Conv2d(8, 128, 3, padding=1)
    trial = next(b.twin for b in find_breaches(layers(wide)) if b.rule == 'G3')
    # 8 and 128 times the square root of 2 are 11.3 and 181.
    assert trial.in_channels == 12
    assert trial.out_channels == 184


def test_depthwise_branches_become_a_wider_depthwise_layer():
    network = Branches()
    network.left = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    found_layers = layers(network)
    trial = next(b.twin for b in find_breaches(found_layers) if b.rule == 'G3')
    assert trial.is_depthwise
    assert trial.in_channels == 16


@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
def test_replacements_are_tried_in_the_layout_of_the_layer(layout):
    (breach,) = find_breaches(layers(CASES['G1'][0], layout))
    is_last = layout == torch.channels_last
    assert breach.twin.channels_last == is_last


@pytest.mark.parametrize('rule', ['G1', 'G2', 'G3', 'layout'])
def test_layer_and_replacement_can_be_run_alone(rule):
    found_layers = layers(CASES[rule][0])
    breach = find_breaches(found_layers)[0]
    own = found_layers[breach.layer]
    for conv in (own.convolution, breach.twin):
        out = prepared(conv, 'cpu', torch.float32)()
        assert out.shape == (conv.batch, conv.out_channels, *conv.out_size)


def test_a_transposed_layer_can_be_run_alone():
    network = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2))
    (layer,) = layers(network)
    out = prepared(layer.convolution, 'cpu', torch.float32)()
    assert out.shape == (2, 4, 32, 32)


def with_ms(found, *ms):
    return [replace(each, ms=m) for each, m in zip(found, ms, strict=True)]


def test_a_cost_is_the_replaced_share_of_the_time_in_the_network():
    found = with_ms(layers(CASES['G1'][0]), 10.0)
    (cost,) = breaches_of(found, lambda own, twin: (4.0, 3.0))
    # 8 x 32 channels against 16 x 16: as many multiply-adds.
    assert cost.ms == pytest.approx(10.0 * (1 - 3 / 4))
    assert '4 ms alone, 3 ms with 16 -> 16 channels' in cost.how


def test_a_twin_of_more_work_is_scaled_down():
    found = with_ms(layers(CASES['G3'][0]), 6.0, 6.0, 6.0)
    cost, _ = breaches_of(found, lambda own, twin: (4.0, 8.0))
    times = found[0].convolution.flops / cost.twin.flops
    assert cost.ms == pytest.approx(6.0 * (1 - 8.0 * times / 4.0))


def test_elementwise_work_costs_what_it_takes():
    found = with_ms(layers(CASES['G4'][0]), 10.0, 0.25)
    (cost,) = breaches_of(found, None)
    assert cost.ms == 0.25


@pytest.mark.parametrize(
    'error, words',
    [
        (RuntimeError('out of memory\nmore'), 'does not fit in memory'),
        (RuntimeError('no such kernel\nmore'), 'not measured: no such kernel'),
    ],
)
def test_a_twin_that_cannot_run_has_no_cost(error, words):
    def compare(own, twin):
        raise error

    (cost,) = breaches_of(layers(CASES['G1'][0]), compare)
    assert cost.ms is None
    assert cost.how.endswith(words)


def test_when_time_is_over_the_quickest_layers_have_no_cost():
    found = with_ms(layers(CASES['G3'][0]), 1.0, 2.0, 3.0)
    over = iter([False, True])
    first, second = breaches_of(
        found, lambda own, twin: (4.0, 3.0), lambda: next(over)
    )
    assert first.layer > second.layer
    assert first.ms is not None
    assert second.how == 'not measured: no time was left'


def test_equal_pairs_are_timed_once():
    calls = []

    def watch(function):
        calls.append(function())
        return 2.0

    (layer,) = layers(CASES['G1'][0])
    (breach,) = find_breaches([layer])
    effort = Effort(2, 2, 1.0, 1e-9)
    compare = comparison(torch.device('cpu'), torch.float32, watch, effort)
    own = layer.convolution
    assert compare(own, breach.twin) == (2.0, 2.0)
    done = len(calls)
    compare(own, breach.twin)
    assert len(calls) == done > 0
