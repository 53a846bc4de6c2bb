"""The table of formats: every name has one counterpart, and is told apart."""

from functools import cache

import pytest
import torch
from mmdet.registry import MODELS
from pytorchcv.models.shufflenetv2 import shufflenetv2_w1
from torchvision import models

import mmdet_shufflenetv2  # noqa: F401  (registers the backbones)
from mmdet_shufflenetv2.compat.weight_formats import (
    FORMATS,
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
    for each in FORMATS:
        if each.recognises(theirs):
            # Two projects may have the same names, as may SNet and V2.
            names = [each.to_ours(key) for key in theirs[:-1]]
            assert each.family == found.family or names == keys
            assert names == keys or not (each.rows and each.readable)
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
        if found.rows:
            assert found.to_ours(key) is None
            assert found.to_theirs(f'stage9.9.{key}') is None
            if found.units:
                assert found.to_theirs('stage2.9.branch2.0.weight') is None


@pytest.mark.parametrize(
    'library_name, likeness',
    [
        ('resnet18', 'ResNet'),
        ('xception', None),
        ('ghostnet', None),
        ('dpn68', None),
        ('mobilenetv2_wd2', 'MobileNetV2'),
        ('mobilenetv2b_wd2', 'MobileNetV2'),
        ('igcv3_w1', 'IGCV3'),
        ('senet16', 'SENet'),
        ('pnasnet5large', 'PNASNet'),
    ],
)
def test_pytorchcvs_other_families_are_not_mistaken(library_name, likeness):
    provider = pytest.importorskip('pytorchcv.model_provider')
    with torch.device('meta'):
        keys = provider.get_model(library_name).state_dict()
    found = family_of(keys)
    if likeness is None:
        assert found is None
    else:
        assert found.startswith(f'{likeness} in the format of pytorchcv')


@pytest.mark.parametrize(
    'build, likeness',
    [
        (MODELS.get('CSPDarknet'), 'CSPDarknet in the format of mmdet'),
        (models.densenet121, 'DenseNet in the format of torchvision'),
        (models.mobilenet_v3_small, None),
        (models.efficientnet_b0, None),
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


def test_wrappers_and_prefixes_are_read_off_the_keys():
    keys = ['module._orig_mod.a.b.weight', 'module._orig_mod.c.weight']
    assert wrapping_of(keys) == 'module._orig_mod.'
    assert wrapping_of([*keys, 'module.d']) == 'module.'
    assert set(prefixes_of(['net.enc.conv.weight'])) >= {'net.', 'net.enc.'}
