"""Weights of other projects: there and back, and what is refused."""

from functools import partial

import pytest
import torch
from pytorchcv.models import condensenet, mobilenet, shufflenetv2b
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV1, ShuffleNetV2
from mmdet_shufflenetv2.backbones.zoo import outlined
from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import RAW_BGR
from mmdet_shufflenetv2.compat.weight_formats import OURS
from mmdet_shufflenetv2.engine.conversion import read, write


def authors_file(kind, width, **options) -> dict:
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


def library_file(build) -> dict:
    return build().state_dict()


def without_classifier() -> dict:
    return {k: v for k, v in torchvision_file().items() if 'fc.' not in k}


torchvision_file = partial(library_file, models.shufflenet_v2_x0_5)
authors_v2_file = partial(authors_file, ShuffleNetV2, 1.0, out_indices=(3,))


def plain(content: dict) -> dict[str, torch.Tensor]:
    weights = content.get('state_dict', content)
    return {k.removeprefix('module.'): v for k, v in weights.items()}


def to_ours(content: dict) -> dict:
    return write(read(content, 'theirs.pth'), OURS)


@pytest.mark.parametrize(
    'make, their_format, network',
    [
        (torchvision_file, 'torchvision', 'shufflenet_v2_x0_5'),
        (without_classifier, 'torchvision', 'shufflenet_v2_x0_5'),
        (authors_v2_file, 'authors', 'shufflenet_v2_x1_0'),
        (partial(authors_file, ShuffleNetV1, 0.5, groups=8),
         'authors', 'shufflenet_v1_x0_5_g8'),
        (partial(library_file, mobilenet.mobilenet_wd2),
         'pytorchcv', 'mobilenet_v1_x0_5'),
    ],
)  # fmt: skip
def test_there_and_back_gives_the_same_bits(make, their_format, network):
    content = make()
    expected = plain(content)
    for key, value in expected.items():
        # Fresh counters are all equal, which would hide an exchange.
        if key.endswith('num_batches_tracked'):
            value.random_(1, 1 << 40)
    ours = to_ours(content)
    assert ours['meta']['network'] == network
    back = plain(write(read(ours, 'ours.pth'), their_format))
    assert list(back) == list(expected)
    for key, value in expected.items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value), key


def refusal(content, to=OURS) -> str:
    with pytest.raises(CheckpointError) as error:
        write(read(content, 'theirs.pth'), to)
    return str(error.value)


def on_meta(build) -> dict:
    with torch.device('meta'):
        return build().state_dict()


def test_what_is_not_a_whole_network_is_refused():
    # pytorchcv's 1.0x mixes the units of both styles.
    text = refusal(on_meta(shufflenetv2b.shufflenetv2b_w1))
    assert 'closest to shufflenet_v2_x1_0' in text
    assert 'stage2.0.branch1.2.weight' in text
    # Its CondenseNet classifies half of the channels, which an index picks.
    text = refusal(on_meta(condensenet.condensenet74_c8_g8))
    assert 'a linear layer over all its channels: output.index' in text


def test_nothing_that_a_format_does_not_tell_is_lost():
    weights = outlined('shufflenet_v2_star_x0_5', None).state_dict()
    star = {f'backbone.{key}': value for key, value in weights.items()}
    assert 'torchvision has no network' in refusal(star, 'torchvision')
    ours = to_ours(authors_v2_file())
    ours['state_dict']['head.fc.bias'][3] = 0.5
    assert 'has no bias' in refusal(ours, 'authors')
    assert "the style 'torchvision', not 'au" in refusal(ours, 'torchvision')
    ours = to_ours(torchvision_file())
    ours['meta']['input_format'] = RAW_BGR.to_meta()
    assert 'the input format RGB' in refusal(ours, 'torchvision')
