"""Weights of other projects: there and back, and what is refused."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from mmpretrain.models.heads import LinearClsHead
from pytorchcv.models import (
    condensenet,
    igcv3,
    mobilenet,
    shufflenet,
    shufflenetv2b,
)
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV1, ShuffleNetV2
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
    'igcv3 of pytorchcv': (
        lambda: igcv3.igcv3_w1().state_dict(),
        'pytorchcv',
        'igcv3_d_1_0',
    ),
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
def test_there_and_back_gives_the_same_bits(name, randomised_counters):
    make, their_format, network = FILES[name]
    content = randomised_counters(make())
    ours = write(read(content, 'theirs.pth'), OURS)
    assert ours['meta']['network'] == network
    again = read(ours, 'ours.pth')
    assert again.found.name == OURS
    assert_same_bits(plain(write(again, their_format)), plain(content))


@pytest.fixture
def randomised_counters():
    """Fresh counters are all equal, which would hide an exchange."""

    def randomise(content):
        for key, value in plain(content).items():
            if key.endswith('num_batches_tracked'):
                value.random_(1, 1 << 40)
        return content

    return randomise


def test_expected_input_goes_along():
    rgb = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    assert rgb['meta']['input_format'] == NORMALISED_RGB.to_meta()
    bgr = write(read(authors_file(), 'theirs.pth'), OURS)
    assert bgr['meta']['input_format'] == RAW_BGR.to_meta()


def test_absent_batch_counters_stay_absent():
    content = {
        key: value
        for key, value in models.shufflenet_v2_x0_5().state_dict().items()
        if 'num_batches' not in key
    }
    ours = write(read(content, 'theirs.pth'), OURS)
    assert 'backbone.conv1.1.num_batches_tracked' in ours['state_dict']
    assert_same_bits(write(read(ours, 'ours.pth'), 'torchvision'), content)


def test_a_backbone_alone_goes_there_and_back():
    content = models.shufflenet_v2_x0_5().state_dict()
    del content['fc.weight'], content['fc.bias']
    ours = write(read(content, 'theirs.pth'), OURS)
    assert not any(key.startswith('head') for key in ours['state_dict'])
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


def test_a_missing_and_a_surplus_key_are_named():
    content = models.shufflenet_v2_x0_5().state_dict()
    del content['stage3.2.branch2.0.weight']
    text = refusal(content)
    assert 'closest to shufflenet_v2_x0_5' in text
    assert ('missing in the checkpoint: stage3.2.branch2.0.weight') in text
    content['stage3.9.branch2.0.weight'] = torch.zeros(1)
    text = refusal(content)
    assert 'unknown to the model: stage3.9.branch2.0.weight' in text


def test_a_detector_is_no_classifier():
    backbone = ShuffleNetV2(0.5, out_indices=(1, 2))
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    weights['neck.conv.weight'] = torch.zeros(1)
    text = refusal(dict(state_dict=weights))
    assert 'missing in the checkpoint: conv5.0.weight' in text
    assert 'neck.conv.weight' in text


def test_pytorchcvs_mixed_styles_are_refused():
    """Its 1.0x equals neither style, whose unit shapes it mixes."""
    text = refusal(shufflenetv2b.shufflenetv2b_w1().state_dict())
    assert 'is not a whole network' in text
    assert 'stage2.0.branch1.2.weight' in text


def test_condensenets_classifier_is_no_linear_layer():
    """The library's reads half of the channels, which an index picks."""
    with torch.device('meta'):
        network = condensenet.condensenet74_c8_g8()
    content = network.state_dict()
    text = refusal(content)
    assert 'closest to condensenet_g8_c8' in text
    assert 'reads half of the channels, those in output.index' in text
    for key in ('output.index', 'output.linear.weight', 'output.linear.bias'):
        del content[key]
    ours = write(read(content, 'theirs.pth'), OURS)
    assert list(write(read(ours, 'o.pth'), 'pytorchcv')) == list(content)
    ours['state_dict']['head.fc.weight'] = torch.zeros(1, 2064)
    ours['state_dict']['head.fc.bias'] = torch.zeros(1)
    assert 'another network' in refusal(ours, 'pytorchcv')


def test_another_familys_file_is_refused_with_its_name():
    """mmdet's ResNet of the table is of another style than torchvision's."""
    with torch.device('meta'):
        content = models.resnet18().state_dict()
    text = refusal(content)
    assert 'does not hold a network that can be converted' in text
    assert 'looks like ResNet' in text
    assert 'conv1.weight, bn1.weight' in text


@pytest.mark.parametrize('to', ['torchvision', 'mmpretrain', 'pytorchcv'])
def test_another_style_cannot_be_written(to):
    backbone = ShuffleNetV2(0.5, out_indices=(3,), style='authors')
    assert "of style 'torchvision', not 'authors'" in refusal(
        authors_file(backbone), to
    )


def test_other_images_cannot_be_written():
    ours = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    ours['meta']['input_format'] = RAW_BGR.to_meta()
    text = refusal(ours, 'torchvision')
    assert 'for images as RGB' in text
    assert 'not BGR 0-255' in text


def test_a_bias_cannot_be_lost():
    ours = write(read(authors_file(), 'theirs.pth'), OURS)
    ours['state_dict']['head.fc.bias'][3] = 0.5
    assert 'without a bias' in refusal(ours, 'authors')


@pytest.mark.parametrize(
    'head',
    [
        dict(weight=torch.zeros(1000, 7), bias=torch.zeros(1000)),
        dict(weight=torch.tensor(3.0), bias=torch.zeros(1000)),
        dict(weight=torch.zeros(1000, 1024), bias=torch.tensor(3.0)),
        dict(bias=torch.zeros(1000)),
    ],
)
def test_a_linear_layer_of_another_size_is_refused(head):
    content = mmdet_file(1024, ShuffleNetV2(0.5, out_indices=(3,)))
    weights = content['state_dict']
    del weights['fc.weight'], weights['fc.bias']
    weights |= {f'head.fc.{name}': value for name, value in head.items()}
    assert 'weight of (classes, 1024)' in refusal(content)


@pytest.mark.parametrize('style', ['authors', ['foo']])
def test_a_style_that_the_network_cannot_have_is_the_files_fault(style):
    for name, allowed in (
        ('v2 of torchvision', "(None, 'torchvision')"),
        ('mobilenet v2 of torchvision', '(None,)'),
    ):
        content = dict(state_dict=FILES[name][0](), meta=dict(style=style))
        text = refusal(content)
        assert 'theirs.pth looks like torchvision, so its meta.style' in text
        assert f'one of {allowed}, got {style!r}' in text


def test_nonsense_in_the_meta_data_is_refused():
    ours = write(read(TORCHVISION(), 'theirs.pth'), OURS)
    ours['meta']['input_format'] = dict(order='RGB')
    assert "meta.input_format of checkpoint 'theirs.pth'" in refusal(ours)
