"""What is compared, not how fast it is."""

import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis import alternatives
from mmdet_shufflenetv2.analysis.alternatives import (
    WAYS,
    measure_alternatives,
)
from mmdet_shufflenetv2.analysis.networks import Subject, load_subject
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.timing import Effort, Timing

EFFORT = Effort(min_runs=1, max_runs=1, seconds=1e-3, warmup_seconds=1e-9)
IMAGE = torch.randn(1, 3, 32, 32)


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

    monkeypatch.setattr(alternatives, 'interleave', interleave)
    return names


def measure(subject, ways):
    return measure_alternatives(subject, IMAGE, Setting(), ways, EFFORT)


def test_each_way_is_measured_beside_the_network_as_it_is(timed):
    subject = load_subject('ShuffleNetV2', dict(widen_factor=0.5))
    ways = ['batch norm folded', 'channels-last', 'contiguous']
    found = measure(subject, ways)
    assert timed == [['as is', way] for way in ways]
    assert [each.name for each in found] == ways
    assert all(each.problem is None for each in found)
    assert all(each.ms == 2.0 for each in found)
    assert all(each.speedup.median == 2.0 for each in found)


@pytest.mark.parametrize('way', ['batch norm folded', 'contiguous'])
def test_a_changed_network_computes_the_same_in_another_way(way):
    subject = load_subject('ShuffleNetV2', dict(widen_factor=0.5))
    model = WAYS[way].change(
        load_subject('ShuffleNetV2', dict(widen_factor=0.5)).model, Setting()
    )
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (norms == []) == (way == 'batch norm folded')
    assert model.channels_last == (False if way == 'contiguous' else None)
    assert subject.model.channels_last is None


def test_a_backbone_whose_eval_returns_nothing_is_measured(timed):
    subject = load_subject('ResNet', dict(depth=18))
    (found,) = measure(subject, ['batch norm folded'])
    assert found.problem is None


def test_what_would_change_nothing_is_not_measured(timed):
    subject = Subject('net', nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert measure(subject, ['batch norm folded', 'contiguous']) == []


def test_other_values_are_no_alternative(timed, monkeypatch):
    def spoilt(model, setting):
        model[0].weight.data += 1
        return model

    way = alternatives.Way('spoil it', spoilt)
    monkeypatch.setitem(WAYS, 'spoilt', way)
    subject = Subject('net', nn.Sequential(nn.Conv2d(3, 3, 1)).eval())
    (found,) = measure(subject, ['spoilt'])
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
    def fails(model, setting):
        raise error

    monkeypatch.setitem(WAYS, 'fails', alternatives.Way('', fails))
    subject = Subject('net', nn.Sequential(nn.Conv2d(3, 3, 1)).eval())
    found = measure(subject, ['fails', 'channels-last'])
    assert found[0].problem == reason
    assert found[1].ms == 2.0
