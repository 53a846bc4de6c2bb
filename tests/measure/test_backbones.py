import pytest

from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure.backbones import (
    FAMILIES,
    OWN_SIZE,
    TABLE6,
    TABLE8,
    UNIT,
    UNIT_CHANNELS,
    benchmarks,
    channels_of,
    choose,
    column_of,
    paper_batch,
    reference_of,
    table_of,
    unit_macs,
)
from mmdet_shufflenetv2.measure.setting import Setting

TABLE8_NAMES = {name for names in TABLE8.values() for name in names}


def keys(**options):
    found = benchmarks([Setting()], **{'units': (), **options})
    return [benchmark.key for benchmark in found]


def test_table_8_has_all_its_networks_each_at_its_own_size():
    by_name = {key['network']: key for key in keys(size=[OWN_SIZE])}
    assert by_name.keys() == TABLE8_NAMES
    assert by_name['mobilenet_v2_x0_4']['input'] == '160x160'
    assert by_name['shufflenet_v2_x1_5']['column'] == '300M'


def test_the_appendix_has_four_families_in_four_columns():
    found = keys(size=[(640, 480)])
    names = [key['network'] for key in found]
    assert len(names) == 16
    assert set(names) == {n for names in FAMILIES.values() for n in names}
    assert {key['input'] for key in found} == {'640x480'}
    for names in FAMILIES.values():
        assert [column_of(name) for name in names] == list(TABLE8)


def test_networks_of_the_papers_tables_have_a_reference():
    assert TABLE8_NAMES | {*TABLE6} <= NETWORKS.keys()
    assert reference_of('mobilenet_v2_x1_4') == 'shufflenet_v2_x2_0'
    assert reference_of('shufflenet_v2_star_x0_5') == 'shufflenet_v2_x0_5'
    assert reference_of('resnet_50') == 'shufflenet_v2_50'
    assert table_of('resnet_50', OWN_SIZE) == 'Table 6'


def test_a_network_of_no_table_is_measured_alone_and_labelled_so():
    name = 'shufflenet_v1_x1_0_g8'
    (each,) = benchmarks([Setting()], [(32, 32)], [1], [name], ())
    assert (each.key['table'], each.key['column']) == ('', '')
    assert table_of(name, OWN_SIZE) == ''
    timed = []

    def time(competitors):
        timed.extend(network.name for network in competitors)
        raise StopIteration

    with pytest.raises(StopIteration):
        each.measure(time)
    assert timed == [name]


def test_batches_are_the_papers_by_default():
    assert paper_batch(OWN_SIZE, '140M', True) == 8
    assert paper_batch(OWN_SIZE, '140M', False) == 1
    assert paper_batch((320, 320), '40M', True) == 8
    assert paper_batch((640, 480), '40M', True) == 1


def test_an_unknown_network_is_refused_with_those_alike():
    with pytest.raises(UserError, match='shufflenet_v2_x1_0'):
        choose(['shufflenet_v2_x1'], OWN_SIZE)


@pytest.mark.parametrize('column', UNIT_CHANNELS)
@pytest.mark.parametrize('family', UNIT)
def test_units_are_matched_in_flops(family, column):
    wanted = unit_macs('shufflenet_v2', column)
    # By the paper: two 1x1 and a 3x3 depthwise convolution of half of them.
    half = column // 2
    assert wanted == 2 * half * half + 9 * half
    channels = channels_of(family, column)
    found = unit_macs(family, channels)
    # Three groups and a bottleneck of 1:4 leave only multiples of 12.
    assert found == pytest.approx(wanted, rel=0.065)
    _, step = UNIT[family]
    for other in channels - step, channels + step:
        assert abs(unit_macs(family, other) - wanted) >= abs(found - wanted)


def test_units_stand_beside_those_of_shufflenet_v2():
    found = keys(size=[], units=[(28, 28)])
    assert len(found) == 12
    assert {key['table'] for key in found} == {'Appendix Table 1b'}
    assert found[0]['network'] == '10 units of shufflenet_v2, 64 channels'
