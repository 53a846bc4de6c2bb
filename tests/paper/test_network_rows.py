import pytest

from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.paper.networks import choice_rows, cost, network_rows


def test_cost_is_that_of_a_count_by_hand():
    """ResNet-50 in Caffe's style: 3.86 billion, 25.557 million."""
    found = cost('resnet_50')
    assert found.mflops == pytest.approx(3858, abs=1)
    assert found.params_m == pytest.approx(25.557, abs=0.001)


def test_images_are_of_the_networks_own_size():
    wide, narrow = cost('mobilenet_v2_x0_75'), cost('mobilenet_v2_x0_6')
    # At 224 for both it would be half more.
    assert wide.mflops < narrow.mflops


def test_published_and_computed_stand_side_by_side():
    far, near, unpublished = network_rows(
        ['shufflenet_v1_50_g3', 'mobilenet_v1_x1_0', 'shufflenet_v2_star_x0_5']
    )
    assert far['MFLOPs published'] == '2300'
    assert far['MFLOPs here'] == '1210.5'
    assert far['MFLOPs off by'] == '-47.4 %'
    assert far['M params published'] == 'not published'
    assert near['MFLOPs off by'] == '+0.0 %'
    assert near['M params published'] == '4.2'
    assert near['M params here'] == '4.23'
    assert unpublished['MFLOPs published'] == 'not published'
    assert unpublished['MFLOPs off by'] == '-'


def test_network_is_led_to_what_was_chosen_for_it():
    rows = network_rows(['xception_x0_5', 'mobilenet_v1_x1_0'])
    chosen, published = (row['note'] for row in rows)
    (told,) = (row for row in choice_rows() if row['note'] == chosen)
    assert 'xception_x0_5' in told['networks'].split(', ')
    assert published == '-'


def test_choice_of_several_networks_is_told_once():
    choices = [row['what was chosen'] for row in choice_rows()]
    assert len(choices) == len(set(choices))
    named = ', '.join(row['networks'] for row in choice_rows()).split(', ')
    assert sorted(named) == sorted(n for n, r in NETWORKS.items() if r.choice)
