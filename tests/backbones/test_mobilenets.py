"""MobileNet V1 and V2 against other implementations."""

import pytest
import torch
from mmdet.models.backbones import MobileNetV2
from mmpretrain.models.backbones import MobileNetV2 as MMPretrainMobileNetV2
from pytorchcv.models import mobilenet
from torchvision.models import mobilenet_v2

from mmdet_shufflenetv2.backbones import MobileNetV1, StagedMobileNetV2

IMAGES = torch.randn(2, 3, 65, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    'width, name',
    [
        (0.25, 'mobilenet_wd4'),
        (0.5, 'mobilenet_wd2'),
        (0.75, 'mobilenet_w3d4'),
        (1.0, 'mobilenet_w1'),
    ],
)
def test_v1_equals_pytorchcv_at_every_level(
    width, name, randomised, with_weights_of, assert_same_values
):
    theirs = randomised(getattr(mobilenet, name)())
    ours = MobileNetV1(width, out_indices=range(5))
    x = theirs.features.init_block(IMAGES)
    levels = []
    for index in range(5):
        x = getattr(theirs.features, f'stage{index + 1}')(x)
        levels.append(x)
    assert_same_values(with_weights_of(ours, theirs)(IMAGES), levels)


@pytest.mark.parametrize('width', [1.0, 1.4])
@pytest.mark.parametrize('theirs', [MobileNetV2, MMPretrainMobileNetV2])
def test_v2_equals_the_hosts_at_every_level(
    theirs, width, randomised, with_weights_of, assert_same_values
):
    theirs = theirs(width, out_indices=range(8))
    randomised(theirs)
    ours = StagedMobileNetV2(width, out_indices=range(8))
    assert_same_values(with_weights_of(ours, theirs)(IMAGES), theirs(IMAGES))


def test_v2_equals_torchvision(
    randomised, with_weights_of, assert_same_values
):
    theirs = randomised(mobilenet_v2())
    ours = with_weights_of(StagedMobileNetV2(out_indices=(7,)), theirs)
    assert_same_values(ours(IMAGES), [theirs.features(IMAGES)])


def test_v2_can_stand_where_the_hosts_stands():
    with torch.device('meta'):
        ours, theirs = StagedMobileNetV2(), MobileNetV2()
        assert isinstance(ours, MobileNetV2)
        shapes = [
            [f.shape for f in n(IMAGES.to('meta'))] for n in (ours, theirs)
        ]
    assert shapes[0] == shapes[1]


def test_a_narrow_v2_keeps_the_16_channels_of_its_first_layer():
    with torch.device('meta'):
        narrow = StagedMobileNetV2(0.15, out_indices=range(8))
    assert narrow.out_channels == (16, 4, 5, 10, 15, 24, 48, 1280)
    assert narrow.conv1.out_channels == 5
