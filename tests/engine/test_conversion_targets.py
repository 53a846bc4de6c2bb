"""What is written loads where it is to be loaded, or is not written."""

import sys
from collections import Counter

import pytest
import torch
from authors_networks import shufflenet_v2_weights
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.models import backbones as mmpretrain
from mmpretrain.models.heads import LinearClsHead
from pytorchcv.models import (
    igcv3,
    mobilenet,
    nasnet,
    shufflenet,
    shufflenetv2b,
)
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, outlined
from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.weight_formats import FORMAT_NAMES, OURS
from mmdet_shufflenetv2.engine.conversion import formats_of, read, write

CLASSES = 10
# Of every family the smallest, and those that differ from project to project.
SAMPLE = [
    *('shufflenet_v2_x0_5', 'shufflenet_v2_x1_0', 'shufflenet_v2_star_x0_5'),
    *('se_shufflenet_v2_x2_0', 'shufflenet_v2_50', 'shufflenet_v1_x0_5_g3'),
    *('shufflenet_v1_x1_5_g3', 'shufflenet_v1_x0_5_g8'),
    *('shufflenet_v1_x2_0_g8', 'shufflenet_v1_x1_0_g2', 'shufflenet_v1_50_g3'),
    *('mobilenet_v1_x0_25', 'mobilenet_v1_x1_0', 'mobilenet_v2_x0_15'),
    *('mobilenet_v2_x0_75', 'mobilenet_v2_x1_0', 'mobilenet_v2_x1_4'),
    *('xception_x0_5', 'densenet_x0_5', 'igcv2_0_25'),
    *('igcv3_d_0_7', 'igcv3_d_1_0', 'igcv3_d_1_4', 'nasnet_a_4_1056'),
]
V2_SUFFIXES = {0.5: 'wd2', 1.0: 'w1', 1.5: 'w3d2', 2.0: 'w2'}


def of_torchvision(kind: str, width: float, **_) -> nn.Module | None:
    if kind == 'ShuffleNetV2':
        name = f'shufflenet_v2_x{width}'.replace('.', '_')
        return getattr(models, name)(num_classes=CLASSES)
    if kind == 'StagedMobileNetV2':
        return models.mobilenet_v2(width_mult=width, num_classes=CLASSES)
    return None


def of_pytorchcv(
    kind: str, width: float, groups: int = 0, arch: str = ''
) -> nn.Module | None:
    if kind == 'ShuffleNetV2':
        name = f'shufflenetv2b_{V2_SUFFIXES[width]}'
        return getattr(shufflenetv2b, name)(num_classes=CLASSES)
    if kind == 'ShuffleNetV1':
        return shufflenet.get_shufflenet(groups, width, num_classes=CLASSES)
    if kind == 'MobileNetV1':
        return mobilenet.get_mobilenet(width, num_classes=CLASSES)
    if arch.startswith('igcv3'):
        width = float(arch.rpartition('x')[2].replace('_', '.'))
        return igcv3.get_igcv3(width, num_classes=CLASSES)
    if arch == 'nasnet_a_4_1056':
        return nasnet.nasnet_4a1056(num_classes=CLASSES)
    return None


def of_mmdet(kind: str, width: float, channels: int, **_) -> nn.Module | None:
    if kind != 'StagedMobileNetV2':
        return None
    backbone = MODELS.get('MobileNetV2')(width)
    parts = dict(backbone=backbone, fc=nn.Linear(channels, CLASSES))
    return nn.ModuleDict(parts)


def of_mmpretrain(
    kind: str, width: float, channels: int, groups: int = 0
) -> nn.Module | None:
    if kind == 'ShuffleNetV1':
        backbone = mmpretrain.ShuffleNetV1(groups, width)
    elif kind in ('ShuffleNetV2', 'StagedMobileNetV2'):
        kind = kind.removeprefix('Staged')
        backbone = getattr(mmpretrain, kind)(width)
    else:
        return None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return ImageClassifier(backbone, head=LinearClsHead(CLASSES, channels))


def theirs_of(to: str, network: str, channels: int) -> nn.Module | None:
    """The other project's network of that width, if it has any."""
    options = dict(NETWORKS[network].config)
    kind, width = options.pop('type'), options.pop('widen_factor', None)
    # Only pytorchcv has some without a width, and nobody has V2*, SE or 50.
    plain = set(options) <= {'groups'} and width
    if not plain and (to != 'pytorchcv' or kind != 'PytorchcvBackbone'):
        return None
    if to in ('mmdet', 'mmpretrain'):
        options['channels'] = channels
    build = dict(
        torchvision=of_torchvision,
        pytorchcv=of_pytorchcv,
        mmdet=of_mmdet,
        mmpretrain=of_mmpretrain,
    )[to]
    try:
        return build(kind, width, **options)
    except ValueError:
        # Of ShuffleNet V1, where groups do not divide the channels.
        if kind != 'ShuffleNetV1' or width == 1:
            raise
        return None


def style_for(to: str, network: str) -> str | None:
    formats = formats_of(NETWORKS[network].config)
    return {each.name: each.style for each in formats}.get(to)


def ours_of(network: str, style: str | None) -> tuple[dict, int]:
    """A whole file of ours, and the channels that it classifies."""
    row = NETWORKS[network]
    backbone = outlined(network, style)
    channels = row.channels or backbone.out_channels[-1]
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    weights['head.fc.weight'] = torch.empty(CLASSES, channels, device='meta')
    weights['head.fc.bias'] = torch.zeros(CLASSES)
    return dict(state_dict=weights, meta=dict(style=style)), channels


def shapes(state: dict) -> Counter:
    return Counter(tuple(value.shape) for value in state.values())


@pytest.mark.parametrize('network', SAMPLE)
def test_it_is_written_exactly_where_the_other_project_has_it(network):
    for to in set(FORMAT_NAMES) - {OURS, 'authors'}:
        content, channels = ours_of(network, style_for(to, network))
        with torch.device('meta'):
            theirs = theirs_of(to, network, channels)
        classifier = read(content, 'ours.pth')
        same = theirs is not None and (
            shapes(theirs.state_dict()) == shapes(content['state_dict'])
        )
        if same:
            written = write(classifier, to)
            theirs.load_state_dict(
                written.get('state_dict', written), strict=True, assign=True
            )
        else:
            message = f'{to} has no such network as {network}, which can'
            with pytest.raises(CheckpointError, match=message):
                write(classifier, to)


@pytest.mark.parametrize('width', ['0_5', '1_0', '2_0'])
def test_the_authors_have_shufflenet_v2_of_the_table(width):
    content, _ = ours_of(f'shufflenet_v2_x{width}', 'authors')
    written = write(read(content, 'ours.pth'), 'authors')['state_dict']
    del written['classifier.0.weight']
    expected = shufflenet_v2_weights(float(width.replace('_', '.')))
    expected.pop('classifier.0.weight', None)
    assert {k: v.shape for k, v in written.items() if 'num_b' not in k} == {
        k: v.shape for k, v in expected.items() if 'num_b' not in k
    }


@pytest.mark.parametrize(
    'network',
    ['shufflenet_v2_50', 'shufflenet_v2_star_x1_0', 'shufflenet_v1_x1_0_g2'],
)
def test_what_the_authors_do_not_have_is_refused(network):
    content, _ = ours_of(network, 'authors')
    with pytest.raises(CheckpointError, match='authors has no such network'):
        write(read(content, 'ours.pth'), 'authors')


@pytest.fixture
def without_pytorchcv(monkeypatch):
    for name in list(sys.modules):
        if name.partition('.')[0] == 'pytorchcv':
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures('without_pytorchcv')
def test_files_of_other_families_do_not_need_pytorchcv():
    content, _ = ours_of('densenet_x0_5', None)
    with torch.device('meta'):
        resnet = models.resnet18().state_dict()
        stranger = models.shufflenet_v2_x0_5().state_dict()
    assert read(content, 'ours.pth').network == 'densenet_x0_5'
    with pytest.raises(CheckpointError, match='looks like ResNet'):
        read(resnet, 'theirs.pth')
    stranger['extra.weight'] = stranger.pop('conv5.0.weight')
    with pytest.raises(CheckpointError, match='unknown to the model: extra'):
        read(stranger, 'theirs.pth')
