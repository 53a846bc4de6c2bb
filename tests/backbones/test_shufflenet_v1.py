"""ShuffleNet V1 against other implementations, and what it refuses."""

import pytest
import torch
from authors_networks import shufflenet_v1
from mmpretrain.models.backbones import ShuffleNetV1 as MMPretrainShuffleNetV1
from pytorchcv.models import shufflenet

from mmdet_shufflenetv2.backbones import ShuffleNetV1
from mmdet_shufflenetv2.backbones.shufflenet_v1 import MeanPool
from mmdet_shufflenetv2.compat.weight_formats import formats_of_family

IMAGES = torch.randn(2, 3, 65, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    'name, config',
    [
        ('shufflenet_g1_w1', dict(groups=1)),
        ('shufflenet_g2_w1', dict(groups=2)),
        ('shufflenet_g3_w1', dict(groups=3)),
        ('shufflenet_g3_wd2', dict(groups=3, widen_factor=0.5)),
        ('shufflenet_g4_w1', dict(groups=4)),
        ('shufflenet_g8_w1', dict(groups=8)),
    ],
)
def test_equals_pytorchcv_at_every_level(
    name, config, randomised, with_weights_of, assert_same_values
):
    theirs = randomised(getattr(shufflenet, name)())
    ours = with_weights_of(ShuffleNetV1(**config), theirs)
    x = theirs.features.init_block(IMAGES)
    levels = []
    for stage in ('stage1', 'stage2', 'stage3'):
        x = getattr(theirs.features, stage)(x)
        levels.append(x)
    assert_same_values(ours(IMAGES), levels)


@pytest.mark.parametrize('groups', [3, 8])
def test_equals_mmpretrain(
    groups, randomised, with_weights_of, assert_same_values
):
    theirs = MMPretrainShuffleNetV1(groups=groups, out_indices=(0, 1, 2))
    randomised(theirs)
    ours = ShuffleNetV1(groups=groups, style='mmpretrain')
    assert_same_values(with_weights_of(ours, theirs)(IMAGES), theirs(IMAGES))


@pytest.mark.parametrize('groups', [3, 8])
def test_authors_weights_load_and_mean_the_same(
    groups, randomised, saved, assert_same_values
):
    config = dict(widen_factor=0.5, groups=groups, style='authors')
    formats = formats_of_family('ShuffleNetV1')
    (found,) = (f for f in formats if f.name == 'authors')
    weights = {
        found.to_theirs(key): value
        for key, value in randomised(ShuffleNetV1(**config))
        .state_dict()
        .items()
    }
    path = saved(
        {'state_dict': {f'module.{k}': v for k, v in weights.items()}}
    )
    ours = ShuffleNetV1(
        **config, init_cfg=dict(type='Pretrained', checkpoint=str(path))
    )
    ours.init_weights()
    expected = shufflenet_v1(weights, groups, IMAGES)
    assert_same_values(ours.eval()(IMAGES), expected)


def test_only_the_very_first_pointwise_convolution_is_not_grouped():
    with torch.device('meta'):
        backbone = ShuffleNetV1(groups=4)
    found = {
        f'{stage}.{index}': (unit.compress.groups, unit.expand.groups)
        for stage in backbone.stage_names
        for index, unit in enumerate(getattr(backbone, stage))
    }
    assert found.pop('stage2.0') == (1, 4)
    assert set(found.values()) == {(4, 4)}


def test_layers_of_the_deep_network_number_50():
    with torch.device('meta'):
        backbone = ShuffleNetV1(arch='v1_50')
    units = sum(len(getattr(backbone, name)) for name in backbone.stage_names)
    # Three convolutions a unit, the stem's and the classifier.
    assert 3 * units + 2 == 50
    assert backbone.strides == (4, 8, 16, 32)


@pytest.mark.parametrize('size', [(7, 9), (8, 6)])
def test_a_mean_does_not_depend_on_how_it_is_taken(size):
    x = torch.randn(1, 4, *size)
    dilated = MeanPool(4, stride=1, dilation=2)(x)
    # Every other pixel of a dilated mean is the mean of every other pixel.
    torch.testing.assert_close(
        dilated[..., ::2, ::2],
        MeanPool(4, stride=1, dilation=1)(x[..., ::2, ::2]),
    )
