import argparse

import pytest

from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.engine.run_config import UsageError
from mmdet_shufflenetv2.measure import stacked_units
from mmdet_shufflenetv2.measure.backbones import (
    COLUMNS,
    COMMAND,
    FAMILIES,
    OWN_SIZE,
    choose,
    column_of,
    paper_batch,
    paper_per_s,
    reference_of,
)
from mmdet_shufflenetv2.measure.command import add_common_arguments
from mmdet_shufflenetv2.measure.speed import paper_columns
from mmdet_shufflenetv2.measure.stacked_units import (
    CHANNELS,
    SIZES,
    channels_of,
    flops_per_place,
)
from mmdet_shufflenetv2.paper.published import (
    classification_results,
    published_results,
)


def cases_of(*words):
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    add_common_arguments(parser, COMMAND)
    return COMMAND.cases(parser.parse_args(words))


def test_table_8_has_a_case_for_every_network_that_exists():
    cases = cases_of('--size', '224x224', '--units')
    names = {case.key['network'] for case in cases}
    published = classification_results()
    wanted = {n for n in published if published[n].complexity}
    assert names == wanted & NETWORKS.keys()
    assert len(cases) == len(names)
    by_name = {case.key['network']: case.key for case in cases}
    assert by_name['mobilenet_v2_x0_4']['input'] == '160x160'
    assert by_name['shufflenet_v2_x1_5']['column'] == '300M'


def test_the_appendix_has_four_families_in_four_columns():
    cases = cases_of('--size', '640x480', '--units')
    names = [case.key['network'] for case in cases]
    assert len(names) == 16
    assert set(names) == {n for names in FAMILIES.values() for n in names}
    assert {case.key['input'] for case in cases} == {'640x480'}


def test_a_network_of_no_table_is_measured_alone_and_labelled_so():
    words = '--network', 'shufflenet_v1_x1_0_g8', '--size', '32x32'
    (case,) = cases_of(*words, '--units', '--quick')
    assert (case.key['table'], case.key['column']) == ('', '')
    assert case.measure()[0]['speed_ratio'] == ''
    (large,) = cases_of(
        '--network', 'resnet_50', '--size', '224x224', '--units'
    )
    assert large.key['table'] == 'Table 6'
    (star,) = cases_of(
        '--network', 'shufflenet_v2_star_x0_5', '--size', '224x224', '--units'
    )
    assert (star.key['table'], star.key['column']) == ('', '40M')


def test_cpu_0_is_a_cpu():
    cases = cases_of('--device', 'cpu:0', '--units', '--size', '224x224')
    assert {case.key['batch'] for case in cases} == {1}
    assert {(c.setting.device, c.setting.layout) for c in cases} == {
        ('cpu', 'channels_last')
    }


def test_families_have_a_network_in_each_column():
    for names in FAMILIES.values():
        assert [column_of(name) for name in names] == list(COLUMNS)


def test_networks_of_the_papers_tables_have_a_reference_that_exists():
    for name in NETWORKS:
        in_paper = name.replace('_star', '') in classification_results()
        assert (reference_of(name) in NETWORKS) == in_paper
    assert reference_of('mobilenet_v2_x1_4') == 'shufflenet_v2_x2_0'
    assert reference_of('shufflenet_v2_star_x0_5') == 'shufflenet_v2_x0_5'
    assert reference_of('resnet_50') == 'shufflenet_v2_50'


@pytest.mark.parametrize(
    'name, size, batch, on_gpu, speed',
    [
        ('mobilenet_v2_x1_4', OWN_SIZE, 8, True, 137),
        ('mobilenet_v2_x1_4', OWN_SIZE, 1, False, 5.4),
        ('mobilenet_v2_x1_4', OWN_SIZE, 1, True, None),
        ('mobilenet_v2_x0_15', (320, 320), 8, True, 187),
        ('shufflenet_v1_x1_0_g3', (320, 320), 1, True, 414),
        ('xception_x2_0', (1080, 720), 1, True, 106),
        ('xception_x2_0', (1080, 720), 1, False, 0.4),
        ('igcv2_1_0', (1080, 720), 1, False, None),
        ('condensenet_g4_c4', OWN_SIZE, 1, False, None),
        ('shufflenet_v2_star_x0_5', OWN_SIZE, 8, True, None),
        ('shufflenet_v2_x0_5', (300, 300), 1, True, None),
    ],
)
def test_published_speeds_stand_beside_what_they_were_measured_on(
    name, size, batch, on_gpu, speed
):
    assert paper_per_s(name, size, batch, on_gpu) == speed


def test_batches_are_the_papers_by_default():
    assert paper_batch(OWN_SIZE, '140M', True) == 8
    assert paper_batch(OWN_SIZE, '140M', False) == 1
    assert paper_batch((320, 320), '40M', True) == 8
    assert paper_batch((640, 480), '40M', True) == 1


def test_a_ratio_needs_both_speeds():
    assert paper_columns(137, 217)['paper_speed_ratio'] == 0.6313
    assert paper_columns(None, 217) == paper_columns(None, None)
    assert paper_columns(None, None) == {
        'paper_per_s': '',
        'paper_speed_ratio': '',
    }


def test_an_unknown_network_is_refused_with_those_alike():
    with pytest.raises(UsageError, match='shufflenet_v2_x1_0'):
        choose(['shufflenet_v2_x1'], OWN_SIZE)


@pytest.mark.parametrize('column', CHANNELS)
@pytest.mark.parametrize('family', stacked_units.FAMILIES)
def test_units_are_matched_in_flops(family, column):
    wanted = flops_per_place('shufflenet_v2', column)
    # By the paper: two 1x1 and a 3x3 depthwise convolution of half of them.
    half = column // 2
    assert wanted == 2 * half * half + 9 * half
    channels = channels_of(family, column)
    found = flops_per_place(family, channels)
    # Three groups and a bottleneck of 1:4 leave only multiples of 12.
    assert found == pytest.approx(wanted, rel=0.065)
    step = stacked_units.FAMILIES[family].multiple
    for other in channels - step, channels + step:
        further = flops_per_place(family, other)
        assert abs(further - wanted) >= abs(found - wanted)


def test_published_speeds_of_units_are_those_of_their_column():
    table = published_results()['appendix_table1b']
    for size in SIZES:
        for family, speeds in table['{}x{}'.format(*size)].items():
            for place, column in enumerate(CHANNELS):
                found = [
                    stacked_units.paper_per_s(family, column, size, *where)
                    for where in ((8, True), (1, False), (1, True))
                ]
                gpu, cpu = speeds['gpu'][place], speeds['cpu'][place]
                assert found == [gpu, cpu, None]
