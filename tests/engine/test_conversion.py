"""Weights of other projects: there and back, and what is refused."""

import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from mmpretrain.models.heads import LinearClsHead
from pytorchcv.models import (
    condensenet,
    mobilenet,
    shufflenet,
    shufflenetv2b,
)
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV1, ShuffleNetV2
from mmdet_shufflenetv2.backbones.zoo import outlined
from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.compat.weight_formats import OURS
from mmdet_shufflenetv2.engine.conversion import read, write


def authors_file(backbone=None) -> dict:
    """Keys of the authors' 1.0x, as saved from DataParallel."""
    if backbone is None:
        backbone = ShuffleNetV2(1.0, out_indices=(3,), style='authors')
    authors = next(f for f in backbone.formats if f.name == 'authors')
    weights = {
        f'module.{authors.to_theirs(key)}': value
        for key, value in backbone.state_dict().items()
    }
    channels = backbone.out_channels[-1]
    weights['module.classifier.0.weight'] = torch.rand(1000, channels)
    return dict(state_dict=weights)


def authors_v1_file() -> dict:
    backbone = ShuffleNetV1(0.5, groups=8, style='authors')
    return authors_file(backbone)


def mmpretrain_file() -> dict:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            MMPretrainShuffleNetV2(1.5),
            head=LinearClsHead(num_classes=7, in_channels=1024),
        )
    return dict(state_dict=model.state_dict(), meta=dict(epoch=3))


def mmdet_file(channels: int = 1280, backbone=None) -> dict:
    backbone = backbone or MODELS.get('MobileNetV2')(out_indices=(7,))
    parts = dict(backbone=backbone, fc=nn.Linear(channels, 7))
    return dict(state_dict=nn.ModuleDict(parts).state_dict())


# name: (makes the content of a file, its format, its network)
FILES = {
    'v2 of torchvision': (
        lambda: models.shufflenet_v2_x0_5().state_dict(),
        'torchvision',
        'shufflenet_v2_x0_5',
    ),
    'v2 of the authors': (authors_file, 'authors', 'shufflenet_v2_x1_0'),
    'v2 of mmpretrain': (mmpretrain_file, 'mmpretrain', 'shufflenet_v2_x1_5'),
    'v2 of pytorchcv': (
        lambda: shufflenetv2b.shufflenetv2b_wd2().state_dict(),
        'pytorchcv',
        'shufflenet_v2_x0_5',
    ),
    'v1 of the authors': (authors_v1_file, 'authors', 'shufflenet_v1_x0_5_g8'),
    'v1 of pytorchcv': (
        lambda: shufflenet.shufflenet_g2_w1().state_dict(),
        'pytorchcv',
        'shufflenet_v1_x1_0_g2',
    ),
    'mobilenet of pytorchcv': (
        lambda: mobilenet.mobilenet_wd2().state_dict(),
        'pytorchcv',
        'mobilenet_v1_x0_5',
    ),
    'mobilenet v2 of torchvision': (
        lambda: models.mobilenet_v2().state_dict(),
        'torchvision',
        'mobilenet_v2_x1_0',
    ),
    'mobilenet v2 of mmdet': (mmdet_file, 'mmdet', 'mobilenet_v2_x1_0'),
}
TORCHVISION = FILES['v2 of torchvision'][0]


def plain(content: dict) -> dict[str, torch.Tensor]:
    weights = content.get('state_dict', content)
    return {k.removeprefix('module.'): v for k, v in weights.items()}


def assert_same_bits(actual, expected):
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize('name', FILES)
def test_there_and_back_gives_the_same_bits(name):
    make, their_format, network = FILES[name]
    content = make()
    for key, value in plain(content).items():
        # Fresh counters are all equal, which would hide an exchange.
        if key.endswith('num_batches_tracked'):
            value.random_(1, 1 << 40)
    ours = write(read(content, 'theirs.pth'), OURS)
    assert ours['meta']['network'] == network
    again = read(ours, 'ours.pth')
    assert again.found.name == OURS
    assert_same_bits(plain(write(again, their_format)), plain(content))


def test_expected_input_goes_along():
    rgb = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    assert rgb['meta']['input_format'] == NORMALISED_RGB.to_meta()
    bgr = write(read(authors_file(), 'theirs.pth'), OURS)
    assert bgr['meta']['input_format'] == RAW_BGR.to_meta()


@pytest.mark.parametrize('absent', ['num_batches', 'fc.'])
def test_what_is_absent_stays_absent(absent):
    """Batch counters of old files, and the linear layer."""
    content = {k: v for k, v in TORCHVISION().items() if absent not in k}
    ours = write(read(content, 'theirs.pth'), OURS)
    assert 'backbone.conv1.1.num_batches_tracked' in ours['state_dict']
    assert_same_bits(write(read(ours, 'ours.pth'), 'torchvision'), content)


def test_former_names_become_todays():
    backbone = ShuffleNetV2(0.5, out_indices=(3,), receptive_field='enlarged')
    (former,) = (f for f in backbone.formats if f.is_former)
    state = backbone.state_dict()
    content = {f'backbone.{former.to_theirs(k)}': v for k, v in state.items()}
    ours = write(read(content, 'former.pth'), OURS)
    assert ours['meta']['network'] == 'shufflenet_v2_star_x0_5'
    assert_same_bits(
        ours['state_dict'], {f'backbone.{k}': v for k, v in state.items()}
    )


def refusal(content, to=OURS) -> str:
    with pytest.raises(CheckpointError) as error:
        write(read(content, 'theirs.pth'), to)
    return str(error.value)


@pytest.mark.parametrize(
    'network, to',
    [
        ('shufflenet_v2_x1_0', 'pytorchcv'),
        ('shufflenet_v2_star_x0_5', 'torchvision'),
        ('shufflenet_v2_50', 'authors'),
        ('shufflenet_v1_x1_0_g2', 'authors'),
        ('shufflenet_v1_x0_5_g8', 'mmpretrain'),
        ('mobilenet_v2_x0_75', 'torchvision'),
    ],
)
def test_what_another_project_has_not_is_not_written(network, to):
    weights = outlined(network, None).state_dict()
    content = {f'backbone.{key}': value for key, value in weights.items()}
    message = f'{to} has no such network as {network}, which can'
    assert message in refusal(content, to)


def test_a_missing_and_a_surplus_key_are_named():
    content = TORCHVISION()
    content['stage3.9.branch2.0.weight'] = content.pop('conv5.0.weight')
    text = refusal(content)
    assert 'closest to shufflenet_v2_x0_5' in text
    assert 'missing in the checkpoint: conv5.0.weight' in text
    assert 'unknown to the model: stage3.9.branch2.0.weight' in text


def test_pytorchcvs_mixed_styles_are_refused():
    """Its 1.0x equals neither style, whose unit shapes it mixes."""
    text = refusal(shufflenetv2b.shufflenetv2b_w1().state_dict())
    assert 'is not a whole network' in text
    assert 'stage2.0.branch1.2.weight' in text


def test_condensenets_classifier_is_no_linear_layer():
    """The library's reads half of the channels, which an index picks."""
    with torch.device('meta'):
        content = condensenet.condensenet74_c8_g8().state_dict()
    text = refusal(content)
    assert 'reads half of the channels, those in output.index' in text
    for key in ('output.index', 'output.linear.weight', 'output.linear.bias'):
        del content[key]
    ours = write(read(content, 'theirs.pth'), OURS)
    assert list(write(read(ours, 'o.pth'), 'pytorchcv')) == list(content)


@pytest.mark.parametrize('to', ['torchvision', 'mmpretrain', 'pytorchcv'])
def test_another_style_cannot_be_written(to):
    backbone = ShuffleNetV2(0.5, out_indices=(3,), style='authors')
    assert "of style 'torchvision', not 'authors'" in refusal(
        authors_file(backbone), to
    )


def test_neither_other_images_nor_a_bias_can_be_lost():
    ours = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    ours['meta']['input_format'] = RAW_BGR.to_meta()
    assert 'for images as RGB' in refusal(ours, 'torchvision')
    ours = write(read(authors_file(), 'theirs.pth'), OURS)
    ours['state_dict']['head.fc.bias'][3] = 0.5
    assert 'without a bias' in refusal(ours, 'authors')


@pytest.mark.parametrize(
    'head, message',
    [
        (
            dict(weight=torch.zeros(9, 7), bias=torch.zeros(9)),
            r'head.fc.weight (checkpoint (9, 7), model (9, 1024))',
        ),
        (
            dict(weight=torch.tensor(3.0), bias=torch.zeros(9)),
            'of another shape: head.fc.weight',
        ),
        (dict(bias=torch.zeros(9)), 'missing in the checkpoint: head.fc.w'),
    ],
)
def test_a_linear_layer_of_another_size_is_refused(head, message):
    content = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    weights = content['state_dict']
    del weights['head.fc.weight'], weights['head.fc.bias']
    weights |= {f'head.fc.{name}': value for name, value in head.items()}
    assert message in refusal(content)


def test_nonsense_in_the_meta_data_is_refused():
    content = dict(state_dict=TORCHVISION(), meta=dict(style='authors'))
    text = refusal(content)
    assert "one of (None, 'torchvision'), got 'authors'" in text
    ours = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    ours['meta']['input_format'] = dict(order='RGB')
    assert "meta.input_format of checkpoint 'theirs.pth'" in refusal(ours)


def test_another_familys_file_is_refused_without_need_of_pytorchcv(
    monkeypatch,
):
    for name in list(sys.modules):
        if name.partition('.')[0] == 'pytorchcv':
            monkeypatch.setitem(sys.modules, name, None)
    with torch.device('meta'):
        content = models.resnet18().state_dict()
    assert 'looks like ResNet' in refusal(content)
