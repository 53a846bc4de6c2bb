import pytest

from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.catalogue import choice_rows, cost, network_rows
from mmdet_shufflenetv2.published import published_costs


def test_cost_is_that_of_a_count_by_hand():
    """ResNet-50 in Caffe's style: 3.86 billion, 25.557 million."""
    found = cost('resnet_50')
    assert found.mflops == pytest.approx(3858, abs=1)
    assert found.params_m == pytest.approx(25.557, abs=0.001)


def test_images_are_of_the_networks_own_size():
    wide, narrow = cost('mobilenet_v2_x0_75'), cost('mobilenet_v2_x0_6')
    # At 224 for both it would be half more.
    assert wide.mflops < narrow.mflops


@pytest.fixture(scope='module')
def rows():
    return {row['network']: row for row in network_rows()}


def test_every_network_has_a_row(rows):
    assert list(rows) == list(NETWORKS)


def test_published_and_computed_stand_side_by_side(rows):
    row = rows['shufflenet_v1_50_g3']
    assert row['MFLOPs published'] == '2300'
    assert row['MFLOPs here'] == '1210.5'
    assert row['MFLOPs off by'] == '-47.4 %'
    assert row['M params published'] == 'not published'


def test_network_far_from_its_figure_says_why(rows):
    far = [
        name
        for name, (mflops, _) in published_costs().items()
        if name in NETWORKS and abs(cost(name).mflops / mflops - 1) > 0.03
    ]
    assert 'shufflenet_v1_50_g3' in far
    told = {row['note'] for row in choice_rows()}
    assert all(rows[name]['note'] in told for name in far)


def test_choice_of_several_networks_is_told_once():
    choices = [row['what was chosen'] for row in choice_rows()]
    assert len(choices) == len(set(choices))
    named = ', '.join(row['networks'] for row in choice_rows()).split(', ')
    assert sorted(named) == sorted(n for n, r in NETWORKS.items() if r.choice)
