import pytest
import torch
from fake_clock import FakeClock

from mmdet_shufflenetv2.measure.backbones import (
    FAMILIES,
    OWN_SIZE,
    TABLE8,
    UNIT_CHANNELS,
    UNITS,
    channels_of,
    place_of,
    unit_macs,
)
from mmdet_shufflenetv2.measure.speed import NOT_MEASURED, joules
from mmdet_shufflenetv2.measure.timing import Timing

ALONE = ('--size', '32x32', '--batch', 2, '--units', '--network')


def time(competitors):
    return {each: Timing([4.0], 0, True) for each in competitors}


def test_table_8_has_its_networks_each_at_its_own_size(asked):
    keys = {
        each.key['network']: each.key
        for each in asked('backbones', '--size', '224x224', '--units')
    }
    assert keys.keys() == {n for names in TABLE8.values() for n in names}
    assert keys['mobilenet_v2_x0_4']['input'] == '160x160'
    assert keys['shufflenet_v2_x1_5']['column'] == '300M'
    for names in FAMILIES.values():
        columns = [place_of(name, (640, 480))[1] for name in names]
        assert columns == list(TABLE8)


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


def test_a_network_of_no_table_is_measured_alone(asked):
    (each,) = asked('backbones', *ALONE, 'shufflenet_v1_x1_0_g8')
    timed = []
    (row,) = each.measure(lambda runs: timed.extend(runs) or time(runs))
    assert len(timed) == 1
    assert row['speed_ratio'] == ''
    assert row['images_per_s'] == 500
    assert row['joules'] == NOT_MEASURED


def test_weights_are_the_same_whatever_was_built_before(asked):
    found = []

    def noting(runs):
        found.append([run() for run in runs.values()])
        return time(runs)

    for name in 'mobilenet_v2_x0_15', 'igcv2_0_25', 'mobilenet_v2_x0_15':
        torch.manual_seed(len(found))
        asked('backbones', *ALONE, name)[0].measure(noting)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[2][1])


@pytest.mark.parametrize('device', ['cuda', 'cpu'])
def test_batches_are_the_papers_by_default(asked, device):
    found = {
        (each.key['input'], each.key['column']): each.key['batch']
        for each in asked('backbones', '--device', device, '--units')
    }
    eight = {place for place, batch in found.items() if batch == 8}
    tables = {'224x224', '160x160', '192x192'}
    wanted = {place for place in found if place[0] in tables}
    wanted.add(('320x320', '40M'))
    assert eight == (wanted if device == 'cuda' else set())


@pytest.mark.parametrize('column', UNIT_CHANNELS)
@pytest.mark.parametrize('family', UNITS)
def test_units_are_matched_in_flops(family, column):
    wanted = unit_macs('shufflenet_v2', column)
    # By the paper: two 1x1 and a 3x3 depthwise convolution of half of them.
    half = column // 2
    assert wanted == 2 * half * half + 9 * half
    channels = channels_of(family, column)
    found = unit_macs(family, channels)
    # Three groups and a bottleneck of 1:4 leave only multiples of 12.
    assert found == pytest.approx(wanted, rel=0.065)
    for other in channels - UNITS[family][1], channels + UNITS[family][1]:
        assert abs(unit_macs(family, other) - wanted) >= abs(found - wanted)


def test_energy_of_a_run_is_power_times_its_time():
    for length, runs in (0.3, 4), (5.0, 1):
        clock = FakeClock()
        work = clock.worker('a', [length])
        energy = joules(work, lambda c=clock: 100 * c(), clock)
        assert energy == pytest.approx(100 * length)
        assert len(clock.turns) == runs
