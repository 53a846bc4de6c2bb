"""The key maps of every family, and what tells families apart."""

from functools import cache

import pytest
import torch
from mmdet.registry import MODELS
from pytorchcv.models.shufflenetv2 import shufflenetv2_w1
from torchvision import models

import mmdet_shufflenetv2  # noqa: F401  (registers the backbones)
from mmdet_shufflenetv2.compat.foreign_families import FAMILIES
from mmdet_shufflenetv2.compat.lookalikes import family_of, known_formats

NETWORKS = {
    'ShuffleNetV2': dict(
        type='ShuffleNetV2', out_indices=(3,), style='authors'
    ),
    'ShuffleNetV1': dict(type='ShuffleNetV1'),
    'MobileNetV1': dict(type='MobileNetV1'),
    'MobileNetV2': dict(type='StagedMobileNetV2'),
    'Xception': dict(type='Xception'),
    'DenseNet': dict(type='DenseNet'),
    'IGCV2': dict(type='IGCV2'),
    'PNASNet': dict(type='PNASNet'),
    'IGCV3': dict(type='PytorchcvBackbone', arch='igcv3_d_x1_0'),
    'CondenseNet': dict(type='PytorchcvBackbone', arch='condensenet_g4_c4'),
    'NASNet': dict(type='PytorchcvBackbone', arch='nasnet_a_4_1056'),
    'SENet': dict(type='PytorchcvBackbone', arch='senet_154'),
}
FORMATS = [
    (family, number)
    for family, formats in FAMILIES.items()
    for number in range(len(formats))
]


@cache
def outlined(family: str):
    with torch.device('meta'):
        return MODELS.build(NETWORKS[family])


@pytest.fixture(params=FORMATS, ids=lambda each: '-'.join(map(str, each)))
def case(request):
    """A family, a format of it, and our names of its keys."""
    family, number = request.param
    backbone = outlined(family)
    # Some make the table of names themselves.
    found = backbone.checkpoint_formats[number]
    return family, found, list(backbone.state_dict())


def test_both_directions_undo_each_other(case):
    _, found, keys = case
    theirs = [found.to_theirs(key) for key in keys]
    assert None not in theirs
    assert len(set(theirs)) == len(keys)
    assert [found.to_ours(key) for key in theirs] == keys


def test_keys_are_recognised_as_of_one_family_and_format_alone(case):
    family, found, keys = case
    theirs = [found.to_theirs(key) for key in keys]
    for whole in (theirs, [found.prefix + key for key in theirs]):
        recognised = [
            (name, each.title)
            for name, each in known_formats()
            if each.recognises(whole)
        ]
        assert recognised == [(family, found.title)]
    assert family_of(theirs) == f'{family} in the format of {found.title}'


@pytest.mark.parametrize(
    'library_name, likeness',
    [
        ('resnet18', 'ResNet'),
        ('xception', None),
        ('ghostnet', None),
        ('dpn68', None),
        ('mobilenetv2_wd2', 'MobileNetV2'),
        ('igcv3_w1', 'IGCV3'),
        ('senet16', 'SENet'),
        ('pnasnet5large', 'PNASNet'),
    ],
)
def test_pytorchcvs_other_families_are_not_mistaken(library_name, likeness):
    provider = pytest.importorskip('pytorchcv.model_provider')
    with torch.device('meta'):
        keys = provider.get_model(library_name).state_dict()
    expected = likeness and f'{likeness} in the format of pytorchcv'
    assert family_of(keys) == expected


@pytest.mark.parametrize(
    'build, likeness',
    [
        (MODELS.get('CSPDarknet'), 'CSPDarknet in the format of mmdet'),
        (models.densenet121, 'DenseNet in the format of torchvision'),
        (models.mobilenet_v3_small, None),
        (
            shufflenetv2_w1,
            'ShuffleNetV2 in the format of pytorchcv (shufflenetv2)',
        ),
    ],
)
def test_families_that_nothing_here_loads_are_not_mistaken(build, likeness):
    with torch.device('meta'):
        keys = list(build().state_dict())
    assert family_of(keys) == likeness


def test_unknown_keys_are_of_no_family():
    assert family_of(['blocks.0.weight', 'a']) is None
