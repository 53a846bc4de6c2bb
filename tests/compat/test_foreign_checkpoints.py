"""The key maps: every key of a published network has one of ours."""

import pytest
import torch
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV2
from mmdet_shufflenetv2.compat.foreign_checkpoints import (
    SHUFFLENET_V2_FORMATS,
)

FORMATS = {found.name: found for found in SHUFFLENET_V2_FORMATS}


@pytest.mark.parametrize('width', ['0_5', '1_0', '1_5', '2_0'])
def test_torchvision_keys_are_ours_under_other_names(width):
    with torch.device('meta'):
        theirs = getattr(models, f'shufflenet_v2_x{width}')().state_dict()
        ours = ShuffleNetV2(
            float(width.replace('_', '.')), out_indices=(3,)
        ).state_dict()
    rename = FORMATS['torchvision'].renamer(theirs)
    names = {rename(key): v.shape for key, v in theirs.items()}
    assert names.pop(None) == (1000,)
    assert names == {key: v.shape for key, v in ours.items()}


def test_authors_units_are_numbered_within_their_stage():
    keys = [f'features.{i}.branch_main.0.weight' for i in range(16)]
    keys += [f'features.{i}.branch_proj.2.weight' for i in (0, 4, 12)]
    rename = FORMATS["ShuffleNet-Series (the authors')"].renamer(keys)
    names = {key: rename(key) for key in keys}
    assert names['features.3.branch_main.0.weight'] == (
        'stage2.3.branch2.pointwise1.conv.weight'
    )
    assert names['features.4.branch_proj.2.weight'] == (
        'stage3.0.branch1.pointwise.conv.weight'
    )
    assert names['features.15.branch_main.0.weight'] == (
        'stage4.3.branch2.pointwise1.conv.weight'
    )
    assert len(set(names.values())) == len(keys)


@pytest.mark.parametrize('name', [n for n in FORMATS if n[0] != 'm'])
@pytest.mark.parametrize(
    'key',
    ['stage2.0.branch2.2.weight', 'features.0.branch_main.9.weight', 'a'],
)
def test_an_unknown_key_has_no_name(name, key):
    assert FORMATS[name].renamer([key])(key) is None


def test_no_two_formats_recognise_the_same_keys():
    examples = {
        'mmdet_shufflenetv2': ['stem.conv1.conv.weight'],
        'torchvision': ['conv1.0.weight', 'stage2.0.branch1.0.weight'],
        "ShuffleNet-Series (the authors')": [
            'first_conv.0.weight',
            'features.0.branch_main.0.weight',
        ],
        'mmpretrain': [
            'conv1.conv.weight',
            'layers.0.0.branch1.0.conv.weight',
        ],
    }
    for name, keys in examples.items():
        found = [f.name for f in FORMATS.values() if f.recognises(keys)]
        assert found == [name]
