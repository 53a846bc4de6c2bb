"""The key maps of every family, and what tells families apart."""

import pytest
import torch
from mmdet.registry import MODELS

import mmdet_shufflenetv2  # noqa: F401  (registers the backbones)
from mmdet_shufflenetv2.compat.foreign_families import FAMILIES, family_of

NETWORKS = {
    'ShuffleNetV2': dict(
        type='ShuffleNetV2', out_indices=(3,), style='authors'
    ),
    'ShuffleNetV1': dict(type='ShuffleNetV1'),
    'MobileNetV1': dict(type='MobileNetV1'),
    'MobileNetV2': dict(type='StagedMobileNetV2'),
    'Xception': dict(type='Xception'),
}
FORMATS = [
    (family, found)
    for family, formats in FAMILIES.items()
    for found in formats
    if family in NETWORKS
]


@pytest.fixture(params=FORMATS, ids=lambda each: f'{each[0]}-{each[1].name}')
def case(request):
    """A family, a format of it, and our names of its keys."""
    family, found = request.param
    with torch.device('meta'):
        return family, found, list(MODELS.build(NETWORKS[family]).state_dict())


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
            (name, each.name)
            for name, formats in FAMILIES.items()
            for each in formats
            if each.recognises(whole)
        ]
        assert recognised == [(family, found.name)]
    assert family_of(theirs) == f'{family} in the format of {found.title}'


def test_unknown_keys_are_of_no_family():
    assert family_of(['blocks.0.weight', 'a']) is None
