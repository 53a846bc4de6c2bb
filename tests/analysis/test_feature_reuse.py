import csv
import math

import pytest
import torch
from mmdet.registry import MODELS
from torchvision.models import DenseNet as TorchvisionDenseNet

from mmdet_shufflenetv2.analysis.feature_reuse import (
    dense_weights,
    describe,
    draw,
    passed_channels,
    write_csv,
)


def shufflenet(**options):
    return MODELS.build(dict(type='ShuffleNetV2', widen_factor=0.5, **options))


@pytest.mark.parametrize('style', ['torchvision', 'authors'])
def test_half_of_the_channels_pass_each_block(style):
    counts = {
        (r.part, r.source, r.target): r.value
        for r in passed_channels(shufflenet(style=style))
    }
    units = {'stage2': (4, 48), 'stage3': (8, 96), 'stage4': (4, 192)}
    expected = {
        (part, source, target): math.ceil(channels / 2 ** (target - source))
        for part, (count, channels) in units.items()
        for source in range(count)
        for target in range(source + 1, count)
    }
    assert counts == expected


def test_counts_are_beside_the_papers_formula():
    plain = passed_channels(shufflenet())
    for reuse in plain:
        assert reuse.value == pytest.approx(reuse.expected, abs=1)
        assert reuse.share == pytest.approx(
            0.5 ** (reuse.target - reuse.source), abs=0.05
        )
    # A residual addition is no untouched passage.
    assert passed_channels(shufflenet(with_residual=True)) == plain


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match='ShuffleNet V2 units, got DenseNet'):
        passed_channels(MODELS.build(dict(type='DenseNet')))


def torchvision_state(growth=4, layers=(2, 3)):
    return TorchvisionDenseNet(growth, layers, 8, bn_size=2).state_dict()


def older_names(state):
    return {k.replace('.conv1.', '.conv.1.'): v for k, v in state.items()}


@pytest.mark.parametrize('rename', [dict, older_names])
def test_a_planted_weight_is_found_between_its_layers(rename):
    state = torchvision_state()
    key = 'features.denseblock2.denselayer3.conv1.weight'
    weight = torch.full_like(state[key], 0.1)
    before = weight.shape[1] - 2 * 4
    weight[:, before : before + 4] = -0.4  # What layer 1 has added.
    state[key] = weight
    found = dense_weights(rename(state))
    values = {
        r.source: (round(r.value, 6), round(r.share, 6))
        for r in found
        if (r.part, r.target) == ('block 2', 3)
    }
    assert values == {0: (0.1, 0.25), 1: (0.4, 1.0), 2: (0.1, 0.25)}
    pairs = {(r.part, r.source, r.target) for r in found}
    assert len(pairs) == len(found) == (1 + 2) + (1 + 2 + 3)


def test_this_packages_densenet_is_read_too():
    backbone = MODELS.build(dict(type='DenseNet', widen_factor=0.5))
    found = dense_weights(backbone.state_dict())
    assert {r.part for r in found} == {'block 2', 'block 3', 'block 4'}
    layers = {'block 2': 3, 'block 3': 7, 'block 4': 3}
    for part, count in layers.items():
        assert max(r.target for r in found if r.part == part) == count


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match='must hold a DenseNet'):
        dense_weights(shufflenet().state_dict())
    state = torchvision_state()
    key = 'features.denseblock2.denselayer3.conv1.weight'
    state[key] = state[key][:, :-1]
    with pytest.raises(ValueError, match='equally many channels'):
        dense_weights(state)


def test_text_table_and_picture_hold_every_pair(tmp_path):
    networks = {
        'v2': passed_channels(shufflenet()),
        'dense': dense_weights(torchvision_state()),
    }
    text = describe(networks)
    assert '48 (48)' in text
    assert 'block 2: mean |weight|' in text
    write_csv(tmp_path / 'reuse.csv', networks)
    with (tmp_path / 'reuse.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, networks.values()))
    assert {row['network'] for row in rows} == {'v2', 'dense'}
    images = [a for a in draw(networks).axes if a.images]
    assert len(images) == 3 + 2
    grid = images[1].images[0].get_array()
    assert grid.shape == (7, 7)
    assert grid.count() == 7 * 8 // 2
    assert grid[0, 0] == 0.5
