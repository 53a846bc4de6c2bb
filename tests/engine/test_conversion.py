"""Weights of other projects: there and back, and what is refused."""

import sys

import pytest
import torch
from mmdet.registry import MODELS
from pytorchcv.models import condensenet, mobilenet, shufflenet, shufflenetv2b
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV1, ShuffleNetV2
from mmdet_shufflenetv2.backbones.zoo import outlined
from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.compat.weight_formats import OURS
from mmdet_shufflenetv2.engine.conversion import read, write


def torchvision_file() -> dict:
    return models.shufflenet_v2_x0_5().state_dict()


def authors_file(kind=ShuffleNetV2, width=1.0, **options) -> dict:
    """Keys of the authors', as saved from DataParallel."""
    backbone = kind(width, style='authors', **options)
    authors = next(f for f in backbone.formats if f.name == 'authors')
    weights = {
        f'module.{authors.to_theirs(key)}': value
        for key, value in backbone.state_dict().items()
    }
    channels = backbone.out_channels[-1]
    weights['module.classifier.0.weight'] = torch.rand(1000, channels)
    return dict(state_dict=weights)


def authors_v2_file() -> dict:
    return authors_file(out_indices=(3,))


def mmdet_file() -> dict:
    backbone = MODELS.get('MobileNetV2')(out_indices=(7,))
    parts = dict(backbone=backbone, fc=nn.Linear(1280, 7))
    return dict(state_dict=nn.ModuleDict(parts).state_dict())


# Makes the content of a file; its format; its network.
FILES = [
    (torchvision_file, 'torchvision', 'shufflenet_v2_x0_5'),
    (authors_v2_file, 'authors', 'shufflenet_v2_x1_0'),
    (
        lambda: shufflenetv2b.shufflenetv2b_wd2().state_dict(),
        *('pytorchcv', 'shufflenet_v2_x0_5'),
    ),
    (
        lambda: authors_file(ShuffleNetV1, 0.5, groups=8),
        *('authors', 'shufflenet_v1_x0_5_g8'),
    ),
    (
        lambda: shufflenet.shufflenet_g2_w1().state_dict(),
        *('pytorchcv', 'shufflenet_v1_x1_0_g2'),
    ),
    (
        lambda: mobilenet.mobilenet_wd2().state_dict(),
        *('pytorchcv', 'mobilenet_v1_x0_5'),
    ),
    (
        lambda: models.mobilenet_v2().state_dict(),
        *('torchvision', 'mobilenet_v2_x1_0'),
    ),
    (mmdet_file, 'mmdet', 'mobilenet_v2_x1_0'),
]


def plain(content: dict) -> dict[str, torch.Tensor]:
    weights = content.get('state_dict', content)
    return {k.removeprefix('module.'): v for k, v in weights.items()}


def to_ours(content: dict) -> dict:
    return write(read(content, 'theirs.pth'), OURS)


def assert_same_bits_after(content, to):
    back = plain(write(read(to_ours(content), 'ours.pth'), to))
    expected = plain(content)
    assert list(back) == list(expected)
    for key, value in expected.items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value), key


@pytest.mark.parametrize('make, their_format, network', FILES)
def test_there_and_back_gives_the_same_bits(make, their_format, network):
    content = make()
    for key, value in plain(content).items():
        # Fresh counters are all equal, which would hide an exchange.
        if key.endswith('num_batches_tracked'):
            value.random_(1, 1 << 40)
    assert to_ours(content)['meta']['network'] == network
    assert_same_bits_after(content, their_format)


@pytest.mark.parametrize('absent', ['num_batches', 'fc.'])
def test_what_is_absent_stays_absent(absent):
    """Batch counters of old files, and the linear layer."""
    content = torchvision_file()
    content = {k: v for k, v in content.items() if absent not in k}
    assert_same_bits_after(content, 'torchvision')


def test_expected_input_goes_along():
    for make, expected in (
        (torchvision_file, NORMALISED_RGB),
        (authors_v2_file, RAW_BGR),
    ):
        assert to_ours(make())['meta']['input_format'] == expected.to_meta()


def test_former_names_become_todays():
    backbone = ShuffleNetV2(0.5, out_indices=(3,), receptive_field='enlarged')
    (former,) = (f for f in backbone.formats if f.is_former)
    state = backbone.state_dict()
    ours = to_ours(
        {f'backbone.{former.to_theirs(k)}': v for k, v in state.items()}
    )
    assert ours['meta']['network'] == 'shufflenet_v2_star_x0_5'
    for key, value in state.items():
        assert torch.equal(ours['state_dict'][f'backbone.{key}'], value)


def refusal(content, to=OURS) -> str:
    with pytest.raises(CheckpointError) as error:
        write(read(content, 'theirs.pth'), to)
    return str(error.value)


@pytest.mark.parametrize(
    'network, to',
    [
        ('shufflenet_v2_x1_0', 'pytorchcv'),
        ('shufflenet_v2_star_x0_5', 'torchvision'),
        ('shufflenet_v1_x1_0_g2', 'authors'),
        ('mobilenet_v2_x0_75', 'torchvision'),
    ],
)
def test_what_another_project_has_not_is_not_written(network, to):
    weights = outlined(network, None).state_dict()
    content = {f'backbone.{key}': value for key, value in weights.items()}
    message = f'{to} has no such network as {network}, which can'
    assert message in refusal(content, to)


def test_what_is_not_a_whole_network_is_refused():
    content = torchvision_file()
    content['stage3.9.branch2.0.weight'] = content.pop('conv5.0.weight')
    text = refusal(content)
    assert 'closest to shufflenet_v2_x0_5' in text
    assert 'missing in the checkpoint: conv5.0.weight' in text
    assert 'unknown to the model: stage3.9.branch2.0.weight' in text
    # pytorchcv's 1.0x mixes the units of both styles.
    text = refusal(shufflenetv2b.shufflenetv2b_w1().state_dict())
    assert 'stage2.0.branch1.2.weight' in text
    # Its CondenseNet classifies half of the channels, which an index picks.
    with torch.device('meta'):
        content = condensenet.condensenet74_c8_g8().state_dict()
    assert 'half of the channels, those in output.index' in refusal(content)


@pytest.mark.parametrize(
    'head, message',
    [
        (
            dict(weight=torch.zeros(9, 7), bias=torch.zeros(9)),
            'head.fc.weight (checkpoint (9, 7), model (9, 1024))',
        ),
        (
            dict(weight=torch.tensor(3.0), bias=torch.zeros(9)),
            'of another shape: head.fc.weight',
        ),
        (dict(bias=torch.zeros(9)), 'missing in the checkpoint: head.fc.w'),
    ],
)
def test_a_linear_layer_of_another_size_is_refused(head, message):
    content = to_ours(torchvision_file())
    weights = content['state_dict']
    del weights['head.fc.weight'], weights['head.fc.bias']
    weights |= {f'head.fc.{name}': value for name, value in head.items()}
    assert message in refusal(content)


def test_nothing_that_a_format_does_not_tell_is_lost():
    ours = to_ours(authors_v2_file())
    ours['state_dict']['head.fc.bias'][3] = 0.5
    assert 'without a bias' in refusal(ours, 'authors')
    assert "of style 'torchvision', not 'au" in refusal(ours, 'torchvision')
    ours = to_ours(torchvision_file())
    ours['meta']['input_format'] = RAW_BGR.to_meta()
    assert 'for images as RGB' in refusal(ours, 'torchvision')


def test_nonsense_in_the_meta_data_is_refused():
    content = dict(state_dict=torchvision_file(), meta=dict(style='authors'))
    assert "one of (None, 'torchvision'), got 'authors'" in refusal(content)
    content['meta'] = dict(input_format=dict(order='RGB'))
    assert "meta.input_format of checkpoint 'theirs.pth'" in refusal(content)


def test_another_familys_file_is_refused_without_need_of_pytorchcv(
    monkeypatch,
):
    for name in list(sys.modules):
        if name.partition('.')[0] == 'pytorchcv':
            monkeypatch.setitem(sys.modules, name, None)
    with torch.device('meta'):
        content = models.resnet18().state_dict()
    assert 'looks like ResNet' in refusal(content)
