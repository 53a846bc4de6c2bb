import sys

import pytest
import torch
from fake_clock import FakeClock
from torch import nn

from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.speed import (
    NOT_MEASURED,
    Network,
    energy_counter,
    joules,
    joules_per_run,
    measure_network,
)
from mmdet_shufflenetv2.measure.timing import Timing


def small(name):
    return Network(name, lambda: nn.Conv2d(3, 4, 3), (2, 3, 8, 8))


def test_a_network_has_the_same_weights_whatever_was_built_before():
    built = []

    def time(competitors):
        built.append([f().sum() for f in competitors.values()])
        return {each: Timing([1.0], 0, True) for each in competitors}

    for seed, names in enumerate(('ab', 'ca')):
        torch.manual_seed(seed)
        mine, reference = map(small, names)
        measure_network(time, mine, reference, Setting(), False)
    assert torch.equal(built[0][0], built[0][1])
    assert torch.equal(built[0][0], built[1][0])


def test_without_a_reference_there_is_no_ratio():
    def time(competitors):
        return {each: Timing([4.0], 0, True) for each in competitors}

    (row,) = measure_network(time, small('x'), None, Setting(), False)
    assert 'speed_ratio' not in row
    assert row['images_per_s'] == 500


def test_energy_of_a_run_is_power_times_its_time():
    for length, runs in (0.3, 4), (5.0, 1):
        clock = FakeClock()
        work = clock.worker('a', [length])
        energy = joules_per_run(
            work, lambda clock=clock: 100 * clock(), clock=clock
        )
        assert energy == pytest.approx(100 * length)
        assert len(clock.turns) == runs


def test_without_a_counter_energy_is_recorded_as_not_measured(monkeypatch):
    with pytest.raises(RuntimeError, match='only GPUs'):
        energy_counter('cpu')
    assert joules(lambda: None, Setting()) == NOT_MEASURED
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    with pytest.raises(RuntimeError, match='nvidia-ml-py'):
        energy_counter('cuda')
