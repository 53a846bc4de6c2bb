"""What is measured besides: peaks, layers beside twins, other ways."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis import advice
from mmdet_shufflenetv2.analysis.layers import layers_of
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.analysis.roofline import Peaks
from mmdet_shufflenetv2.analysis.twins import breaches_of, prepared
from mmdet_shufflenetv2.measure.timing import Timing


class Branches(nn.Module):
    def __init__(self, out=8, groups=1):
        super().__init__()
        self.left = nn.Conv2d(8, out, 3, padding=1, groups=groups)
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


def layers(network):
    x = torch.randn(2, 8, 16, 16)
    return layers_of(network, record(network, lambda: network(x)).operations)


@pytest.mark.parametrize('rule', CASES)
def test_one_broken_rule_is_found_and_its_twin_does_the_same_work(rule):
    network, where = CASES[rule]
    found_layers = layers(network)
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
    def with_ms(rule, ms):
        return [replace(each, ms=ms) for each in layers(CASES[rule][0])]

    (cost,) = breaches_of(with_ms('G1', 10.0), lambda own, twin: (4.0, 3.0))
    # 8 x 32 channels against 16 x 16: as many multiply-adds.
    assert cost.ms == pytest.approx(10.0 * (1 - 3 / 4))
    assert '4 ms alone, 3 ms with 16 -> 16 channels' in cost.how
    # A twin of more work is scaled down.
    found = with_ms('G3', 6.0)
    cost, _ = breaches_of(found, lambda own, twin: (4.0, 8.0))
    times = found[0].convolution.flops / cost.twin.flops
    assert cost.ms == pytest.approx(6.0 * (1 - 8.0 * times / 4.0))
    # Element-wise work costs what it takes.
    (cost,) = breaches_of(with_ms('G4', 0.25))
    assert cost.ms == 0.25


PEAKS = Peaks(50.0, ((1_000, 100.0), (100_000, 50.0), (10_000_000, 20.0)))


@pytest.mark.parametrize(
    'flops, moved, ms, limit',
    [
        (50_000_000, 1_000, 1.0, 'compute'),
        (1, 40_000_000, 2.0, 'memory'),
        (0, 0, 0.0, ''),
    ],
)
def test_the_slower_of_computing_and_moving_is_the_floor(
    flops, moved, ms, limit
):
    assert PEAKS.floor_ms(flops, moved) == pytest.approx(ms)
    assert PEAKS.limit(flops, moved) == limit


class Layout(nn.Module):
    """As this package's backbones, it may choose a layout by itself."""

    channels_last = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean += 0.5

    def forward(self, x):
        return self.norm(self.conv(x))


@pytest.fixture
def timed(monkeypatch):
    """Runs the competitors once; the second is said to be twice as fast."""
    names = []

    def interleave(functions, watch, effort):
        names.append(list(functions))
        for function in functions.values():
            function()
        return {
            name: Timing([4.0 / turn] * 3, 1, True)
            for turn, name in enumerate(functions, start=1)
        }

    monkeypatch.setattr(advice, 'interleave', interleave)
    return names


def measure(model, names):
    model.eval()
    image = (torch.randn(1, 3, 16, 16),)
    run = lambda model, inputs: model(*inputs)  # noqa: E731
    return advice.measure_ways(model, image, run, None, None, names)


def test_each_way_is_measured_beside_the_network_as_it_is(timed):
    model = Layout()
    names = ['batch norm folded', 'channels-last', 'contiguous']
    found = measure(model, names)
    assert timed == [['as is', name] for name in names]
    assert [(e.name, e.ms, e.problem) for e in found] == [
        (name, 2.0, None) for name in names
    ]
    assert all(each.speedup.median == 2.0 for each in found)
    assert model.channels_last is None
    assert isinstance(model.norm, nn.BatchNorm2d)
    # What would change nothing is not measured.
    assert measure(nn.Conv2d(3, 3, 1), [names[0], names[2]]) == []


def test_a_way_that_fails_or_gives_other_values_says_so(timed, monkeypatch):
    def change(model, name):
        if name == 'compiled':
            raise KeyError('part')
        model.weight.data += 1 if name == 'contiguous' else 0
        return True

    monkeypatch.setattr(advice, '_change', change)
    names = ['compiled', 'contiguous', 'channels-last']
    found = measure(nn.Conv2d(3, 3, 1), names)
    assert found[0].problem == "KeyError: 'part'"
    assert found[1].problem == 'gives other values'
    assert found[2].ms == 2.0
    assert timed == [['as is', 'channels-last']]
