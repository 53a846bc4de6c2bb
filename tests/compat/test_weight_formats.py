"""The table of formats: every name has one counterpart, and is told apart."""

from functools import cache

import pytest
import torch
from mmdet.registry import MODELS

import mmdet_shufflenetv2  # noqa: F401  (registers the backbones)
from mmdet_shufflenetv2.compat.weight_formats import (
    family_of,
    prefixes_of,
    wrapping_of,
)

NETWORKS = {
    'ShuffleNetV2': dict(
        type='ShuffleNetV2', out_indices=(3,), style='authors'
    ),
    'ShuffleNetV1': dict(type='ShuffleNetV1'),
    'MobileNetV1': dict(type='MobileNetV1'),
    'MobileNetV2': dict(type='StagedMobileNetV2', out_indices=(7,)),
    'Xception': dict(type='Xception'),
    'DenseNet': dict(type='DenseNet'),
    'IGCV2': dict(type='IGCV2'),
    'PNASNet': dict(type='PNASNet'),
    'IGCV3': dict(type='PytorchcvBackbone', arch='igcv3_d_x1_0'),
    'CondenseNet': dict(type='PytorchcvBackbone', arch='condensenet_g4_c4'),
    'NASNet': dict(type='PytorchcvBackbone', arch='nasnet_a_4_1056'),
    'SENet': dict(type='PytorchcvBackbone', arch='senet_154'),
}


@cache
def outlined(family: str):
    with torch.device('meta'):
        return MODELS.build(NETWORKS[family])


CASES = [(f, n) for f in NETWORKS for n in range(len(outlined(f).formats))]


@pytest.fixture(params=CASES, ids=lambda each: '-'.join(map(str, each)))
def case(request):
    """A format, and our names of all its weights."""
    family, number = request.param
    found = outlined(family).formats[number]
    keys = list(outlined(family).state_dict())
    if found.name == 'fastestdet':
        keys = [key for key in keys if not key.startswith('conv5')]
    return found, keys


def test_both_directions_undo_each_other(case):
    found, keys = case
    theirs = [found.to_theirs(key) for key in keys]
    assert None not in theirs
    assert len(set(theirs)) == len(keys)
    assert [found.to_ours(key) for key in theirs] == keys


def test_keys_are_recognised_as_of_one_family_and_naming(case):
    found, keys = case
    theirs = [found.to_theirs(key) for key in keys]
    theirs.append(f'{found.classifier}.weight')
    likeness = f'{found.family} in the format of '
    assert family_of(theirs).startswith(likeness)
    assert family_of([f'backbone.{k}' for k in theirs]).startswith(likeness)


@pytest.mark.parametrize('family', ['ShuffleNetV2', 'MobileNetV2'])
@pytest.mark.parametrize(
    'key',
    [
        *('a', 'features.0.branch_main.9.weight', 'blocks.9.9.9.weight'),
        *('features.16.branch_main.0.weight', 'features.19.conv.2.weight'),
    ],
)
def test_an_unknown_key_has_no_name(family, key):
    for found in outlined(family).formats:
        if found.theirs:
            assert found.to_ours(key) is None
            assert found.to_theirs(f'stage9.9.{key}') is None
            if found.first == 2 and found.units == (4, 8, 4):
                assert found.to_theirs('stage2.9.branch2.0.weight') is None


def test_wrappers_and_prefixes_are_read_off_the_keys():
    keys = ['module._orig_mod.a.b.weight', 'module._orig_mod.c.weight']
    assert wrapping_of(keys) == 'module._orig_mod.'
    assert wrapping_of([*keys, 'module.d']) == 'module.'
    assert set(prefixes_of(['net.enc.conv.weight'])) >= {'net.', 'net.enc.'}
