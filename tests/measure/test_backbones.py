import pytest
import torch
from fake_clock import FakeClock

from mmdet_shufflenetv2.measure.backbones import (
    OWN_SIZE,
    UNITS,
    place_of,
)
from mmdet_shufflenetv2.measure.flops import macs
from mmdet_shufflenetv2.measure.speed import NOT_MEASURED, joules
from mmdet_shufflenetv2.measure.timing import Timing

ALONE = ('--size', '32x32', '--batch', 2, '--units', '--network')


def time(competitors):
    return {each: Timing([4.0], 0, True) for each in competitors}


@pytest.mark.parametrize(
    'name, place',
    [
        ('mobilenet_v2_x1_4', ('Table 8', '500M', 'shufflenet_v2_x2_0')),
        ('shufflenet_v2_star_x0_5', ('', '40M', 'shufflenet_v2_x0_5')),
        ('resnet_50', ('Table 6', 'Table 6', 'shufflenet_v2_50')),
        ('shufflenet_v1_x1_0_g8', ('', '', '')),
    ],
)
def test_a_network_has_its_table_column_and_reference(name, place):
    assert place_of(name, OWN_SIZE) == place


def test_a_network_in_no_table_is_measured_without_a_reference(asked):
    (each,) = asked('backbones', *ALONE, 'shufflenet_v1_x1_0_g8')
    timed = []
    (row,) = each.measure(lambda runs: timed.extend(runs) or time(runs))
    assert len(timed) == 1
    assert row['speed_ratio'] == ''
    assert row['images_per_s'] == 500
    assert row['joules'] == NOT_MEASURED


def test_weights_do_not_depend_on_what_was_built_before(asked):
    found = []

    def noting(runs):
        found.append([run() for run in runs.values()])
        return time(runs)

    for name in 'mobilenet_v2_x0_15', 'igcv2_0_25', 'mobilenet_v2_x0_15':
        torch.manual_seed(len(found))
        asked('backbones', *ALONE, name)[0].measure(noting)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[2][1])


def unit_macs(family, channels):
    """Multiply-adds of a unit per position of its map."""
    build, _ = UNITS[family]
    with torch.device('meta'):
        return (
            macs(build(channels).eval(), torch.empty(1, channels, 8, 8)) // 64
        )


@pytest.mark.parametrize('column', range(3))
@pytest.mark.parametrize(
    'family, multiple',
    [('shufflenet_v1', 12), ('mobilenet_v2', 1), ('xception', 4)],
)
def test_units_match_flops_as_closely_as_possible(family, multiple, column):
    channels, reference = (
        UNITS[name][1][column] for name in (family, 'shufflenet_v2')
    )
    wanted = unit_macs('shufflenet_v2', reference)
    # In the paper: two 1x1 and a 3x3 depthwise convolution on half of them.
    assert wanted == reference**2 // 2 + 9 * reference // 2
    off, *others = (
        abs(unit_macs(family, each) - wanted)
        for each in (channels, channels - multiple, channels + multiple)
    )
    assert off <= min(others)
    assert off / wanted < 0.065


def test_energy_of_a_run_is_power_times_time():
    for length, runs in (0.3, 4), (5.0, 1):
        clock = FakeClock()
        work = clock.worker('a', [length])
        energy = joules(work, lambda c=clock: 100 * c(), clock)
        assert energy == pytest.approx(100 * length)
        assert len(clock.turns) == runs
