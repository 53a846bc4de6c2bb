import sys

import pytest
from fake_clock import FakeClock

from mmdet_shufflenetv2.measure.energy import EnergyMeter, joules_per_run
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.speed import NOT_MEASURED, joules


class FakeMeter:
    """A device that draws 100 W, whatever it does."""

    def __init__(self, clock):
        self.clock = clock

    def joules(self):
        return 100 * self.clock()


def test_energy_of_a_run_is_power_times_its_time():
    clock = FakeClock()
    work = clock.worker('a', [0.3])
    energy = joules_per_run(work, FakeMeter(clock), clock=clock, seconds=1)
    assert energy == pytest.approx(30)
    assert len(clock.turns) == 4


def test_a_run_longer_than_the_time_is_measured_once():
    clock = FakeClock()
    work = clock.worker('a', [5.0])
    energy = joules_per_run(work, FakeMeter(clock), clock=clock, seconds=1)
    assert energy == pytest.approx(500)


def test_without_a_counter_energy_is_recorded_as_not_measured():
    with pytest.raises(RuntimeError, match='only GPUs'):
        EnergyMeter('cpu')
    assert joules(lambda: None, Setting()) == NOT_MEASURED
    assert joules(lambda: None, Setting(), wanted=False) == NOT_MEASURED


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    with pytest.raises(RuntimeError, match='nvidia-ml-py'):
        EnergyMeter('cuda')
