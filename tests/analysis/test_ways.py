"""What is compared, not how fast it is."""

import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis import ways
from mmdet_shufflenetv2.analysis.ways import WAYS, Way, measure_ways
from mmdet_shufflenetv2.measure.timing import Timing

IMAGE = torch.randn(1, 3, 16, 16)


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

    def train(self, mode=True):
        # Some of MMDetection's backbones return nothing here.
        super().train(mode)


@pytest.fixture
def timed(monkeypatch):
    """Runs the competitors once; the second is said to be twice as fast."""
    names = []

    def interleave(functions, watch, effort):
        for function in functions.values():
            function()
        names.append(list(functions))
        return {
            name: Timing([4.0 / turn] * 3, 1, True)
            for turn, name in enumerate(functions, start=1)
        }

    monkeypatch.setattr(ways, 'interleave', interleave)
    return names


def measure(model, names, features=None):
    model.eval()
    return measure_ways(
        model,
        (IMAGE,),
        lambda model, inputs: model(*inputs),
        features,
        None,
        names,
    )


def test_each_way_is_measured_beside_the_network_as_it_is(timed):
    model = Layout()
    names = ['batch norm folded', 'channels-last', 'contiguous']
    found = measure(model, names)
    assert timed == [['as is', name] for name in names]
    assert [each.name for each in found] == names
    assert all(each.problem is None for each in found)
    assert all(each.ms == 2.0 for each in found)
    assert all(each.speedup.median == 2.0 for each in found)
    assert model.channels_last is None
    assert isinstance(model.norm, nn.BatchNorm2d)


def test_what_would_change_nothing_is_not_measured(timed):
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    assert measure(model, ['batch norm folded', 'contiguous']) == []


@pytest.mark.parametrize(
    'features', [None, lambda model, image: {'level': model(image)}]
)
def test_other_values_are_no_alternative(timed, monkeypatch, features):
    def spoil(model):
        model[0].weight.data += 1

    monkeypatch.setitem(WAYS, 'spoilt', Way('spoil it', spoil))
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    (found,) = measure(model, ['spoilt'], features)
    assert found.problem == 'gives other values'
    assert timed == []


@pytest.mark.parametrize(
    'error, reason',
    [
        (RuntimeError('out of memory\nmore'), 'does not fit in memory'),
        (KeyError('part'), "fails with KeyError: 'part'"),
    ],
)
def test_a_way_that_fails_says_why_and_the_others_go_on(
    timed, monkeypatch, error, reason
):
    def fail(model):
        raise error

    monkeypatch.setitem(WAYS, 'fails', Way('', fail))
    found = measure(
        nn.Sequential(nn.Conv2d(3, 3, 1)), ['fails', 'channels-last']
    )
    assert found[0].problem == reason
    assert found[1].ms == 2.0
