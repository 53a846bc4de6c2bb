"""The key maps: every key of a published network has one of ours."""

import pytest
import torch
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from pytorchcv.models.shufflenetv2b import shufflenetv2b_wd2
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV2
from mmdet_shufflenetv2.compat.foreign_checkpoints import (
    SHUFFLENET_V2_FORMATS,
)

FORMATS = {found.name: found for found in SHUFFLENET_V2_FORMATS}
FOREIGN = [name for name in FORMATS if name != 'mmdet_shufflenetv2']
THEIRS = {
    'torchvision': models.shufflenet_v2_x0_5,
    'mmpretrain': lambda: MMPretrainShuffleNetV2(0.5),
    'pytorchcv': shufflenetv2b_wd2,
}


def outlined(build) -> dict[str, torch.Size]:
    """The shapes in a network's state dict."""
    with torch.device('meta'):
        return {k: v.shape for k, v in build().state_dict().items()}


def ours(width: float = 0.5, style: str = 'torchvision'):
    return outlined(lambda: ShuffleNetV2(width, out_indices=(3,), style=style))


def translated(shapes: dict, found) -> dict:
    return {found.to_ours(key): shape for key, shape in shapes.items()}


@pytest.mark.parametrize('width', ['0_5', '1_0', '1_5', '2_0'])
def test_torchvision_keys_are_ours_under_other_names(width):
    theirs = outlined(getattr(models, f'shufflenet_v2_x{width}'))
    names = translated(theirs, FORMATS['torchvision'])
    # The classifier.
    assert names.pop(None) == (1000,)
    assert names == ours(float(width.replace('_', '.')))


@pytest.mark.parametrize('name', THEIRS)
def test_other_keys_are_ours_under_other_names(name):
    names = translated(outlined(THEIRS[name]), FORMATS[name])
    names.pop(None, None)
    assert names == ours()


@pytest.mark.parametrize('name', FORMATS)
def test_both_directions_undo_each_other(name):
    found = FORMATS[name]
    theirs = [
        found.to_theirs(key) for key in ours(style=found.style or 'authors')
    ]
    assert None not in theirs
    assert len(set(theirs)) == len(theirs)
    assert [found.to_ours(key) for key in theirs] == list(ours())


def test_authors_units_are_numbered_through():
    to_ours = FORMATS['authors'].to_ours
    assert to_ours('features.3.branch_main.0.weight') == (
        'stage2.3.branch2.pointwise1.conv.weight'
    )
    assert to_ours('features.4.branch_proj.2.weight') == (
        'stage3.0.branch1.pointwise.conv.weight'
    )
    assert to_ours('features.15.branch_main.1.running_mean') == (
        'stage4.3.branch2.pointwise1.bn.running_mean'
    )


@pytest.mark.parametrize('name', FOREIGN)
@pytest.mark.parametrize(
    'key',
    [
        'stage2.0.branch2.2.weight',
        'features.0.branch_main.9.weight',
        'features.16.branch_main.0.weight',
        'stage2.1.branch1.0.weight',
        'a',
    ],
)
def test_an_unknown_key_has_no_name(name, key):
    assert FORMATS[name].to_ours(key) is None


@pytest.mark.parametrize('name', FORMATS)
def test_a_format_recognises_its_own_keys_alone(name):
    found = FORMATS[name]
    keys = [found.to_theirs(key) for key in ours()]
    assert [f.name for f in FORMATS.values() if f.recognises(keys)] == [name]
    whole = [found.prefix + key for key in keys]
    assert [f.name for f in FORMATS.values() if f.recognises(whole)] == [name]
