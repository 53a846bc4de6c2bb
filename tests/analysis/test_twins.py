"""Peaks, layers against their twins, and alternative ways to run."""

import pytest
import torch
from nets import Net
from torch import nn

from mmdet_shufflenetv2.analysis import advice
from mmdet_shufflenetv2.analysis.layers import layers_of
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.analysis.roofline import Peaks
from mmdet_shufflenetv2.analysis.twins import breaches_of, prepared
from mmdet_shufflenetv2.measure.timing import Timing

# For each rule, a network that breaks only it, and the layers that do.
CASES = {
    'G1': (Net(lambda m, x: m.a(x), a=nn.Conv2d(8, 32, 1)), ['a']),
    'G2': (Net(lambda m, x: m.a(x), a=nn.Conv2d(8, 8, 1, groups=2)), ['a']),
    'G3': (
        Net(
            lambda m, x: torch.cat((m.a(x), m.b(x)), 1),
            a=nn.Conv2d(8, 8, 3, padding=1),
            b=nn.Conv2d(8, 8, 3, padding=1),
        ),
        ['a', 'b'],
    ),
    'G4': (
        Net(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(8, 8, 1), b=nn.ReLU()),
        ['b'],
    ),
    'layout': (
        Net(lambda m, x: m.a(x.chunk(2, 1)[0]), a=nn.Conv2d(4, 4, 1)),
        ['a'],
    ),
}


def layers(rule, ms=0.0):
    network, _ = CASES[rule]
    x = torch.randn(2, 8, 16, 16)
    recorded = record(network, lambda: network(x)).operations
    return layers_of(network, recorded, lambda indices: ms)


@pytest.mark.parametrize('rule', CASES)
def test_one_broken_rule_is_found_and_its_twin_does_the_same_work(rule):
    _, where = CASES[rule]
    found_layers = layers(rule)
    found = breaches_of(found_layers)
    assert {breach.rule for breach in found} == {rule}
    assert [found_layers[b.layer].name for b in found] == where
    for breach in found:
        own, twin = found_layers[breach.layer], breach.twin
        if rule == 'G4':
            assert twin is None
            continue
        times = own.branches if rule == 'G3' else 1
        flops = times * own.convolution.flops
        assert twin.flops == pytest.approx(flops, rel=0.15)
        assert twin.kernel_size == own.convolution.kernel_size
        if rule in ('G1', 'G2'):
            assert twin.groups == 1
            assert twin.in_channels == pytest.approx(twin.out_channels, abs=1)
        assert own.convolution.has_gaps == (rule == 'layout')
        assert not twin.has_gaps
        for each in (own.convolution, twin):
            out = prepared(each, 'cpu', torch.float32)()
            assert out.shape == (each.batch, each.out_channels, *each.out_size)


def test_a_cost_is_the_replaced_share_of_the_time_in_the_network():
    (cost,) = breaches_of(layers('G1', 10.0), lambda own, twin: (4.0, 3.0))
    # 8 x 32 and 16 x 16 channels have equal multiply-adds.
    assert cost.ms == pytest.approx(10.0 * (1 - 3 / 4))
    # A twin with more work is scaled down.
    found = layers('G3', 6.0)
    cost, _ = breaches_of(found, lambda own, twin: (4.0, 8.0))
    times = found[0].convolution.flops / cost.twin.flops
    assert cost.ms == pytest.approx(6.0 * (1 - 8.0 * times / 4.0))
    # Element-wise work costs its own time.
    assert breaches_of(layers('G4', 0.25))[0].ms == 0.25


PEAKS = Peaks(50.0, ((1_000, 100.0), (100_000, 50.0), (10_000_000, 20.0)))


@pytest.mark.parametrize(
    'flops, moved, ms, limit',
    [
        (50_000_000, 1_000, 1.0, 'compute'),
        # Halfway between two copies on a logarithmic scale.
        (1, 1_000_000, 1 / 35, 'memory'),
        (1, 40_000_000, 2.0, 'memory'),
        (0, 0, 0.0, ''),
    ],
)
def test_the_slower_of_computing_and_moving_is_the_floor(
    flops, moved, ms, limit
):
    assert PEAKS.floor_ms(flops, moved) == pytest.approx(ms)
    assert PEAKS.limit(flops, moved) == limit


# In nine of ten rounds at least 1.6 times as fast; a pass takes 8 ms.
FASTER = (pytest.approx(8.0 * (1 - 1 / 1.6)), '1.60 to 2.00 times as fast)')


@pytest.fixture
def measured(monkeypatch):
    """Runs the competitors once and reports the second as `FASTER`."""

    def interleave(functions, watch, effort):
        for function in functions.values():
            function()
        times = [4.0] * 11, [2.0] * 9 + [2.5] * 2
        timings = [Timing(each, 1, True) for each in times]
        return dict(zip(functions, timings, strict=True))

    monkeypatch.setattr(advice, 'interleave', interleave)

    def measure(model):
        model.eval()
        image = (torch.randn(1, 3, 16, 16),)
        names = ['batch norm folded', 'channels-last', 'contiguous']
        found = advice.measure_ways(
            *(model, image, lambda model, x: model(*x), None, None, 8.0, names)
        )
        return {
            k: (v.ms, v.text.rpartition(' (')[2]) for k, v in found.items()
        }

    return measure


def test_each_way_is_measured_against_the_unchanged_network(measured):
    model = Net(
        lambda m, x: m.norm(m.conv(x)),
        conv=nn.Conv2d(3, 4, 3),
        norm=nn.BatchNorm2d(4),
    )
    model.norm.running_mean += 0.5
    # Like this package's backbones, it chooses a layout by default.
    model.channels_last = None
    names = ['batch norm folded', 'channels-last', 'contiguous']
    assert measured(model) == dict.fromkeys(names, FASTER)
    assert model.channels_last is None
    assert isinstance(model.norm, nn.BatchNorm2d)
    # Ways that change nothing are not measured.
    assert list(measured(nn.Conv2d(3, 3, 1))) == ['channels-last']


def test_a_way_that_fails_or_changes_outputs_says_so(measured, monkeypatch):
    def change(model, name):
        if name == 'contiguous':
            raise KeyError('part')
        model.weight.data += name == 'channels-last'
        return True

    monkeypatch.setattr(advice, '_change', change)
    assert measured(nn.Conv2d(3, 3, 1)) == {
        'batch norm folded': FASTER,
        'channels-last': (0.0, 'changes the outputs)'),
        'contiguous': (0.0, "KeyError: 'part')"),
    }
