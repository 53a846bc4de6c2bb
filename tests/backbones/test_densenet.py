"""DenseNet against pytorchcv's blocks, and its arguments."""

import pytest
import torch
import torch.nn as nn
from pytorchcv.models import densenet, preresnet

from mmdet_shufflenetv2.backbones import DenseNet

GROWTH = {0.5: 13, 2.0: 52}
UNITS = (3, 7, 3)


def pytorchcv_stages(growth: int) -> list[nn.Sequential]:
    """The same network from the library's blocks."""
    stages, channels = [], 24
    for count in UNITS:
        units = [densenet.TransitionBlock(channels, channels // 2)]
        channels //= 2
        for _ in range(count):
            units.append(densenet.DenseUnit(channels, channels + growth, 0.0))
            channels += growth
        stages.append(nn.Sequential(*units))
    stages[-1].append(preresnet.PreResActivation(channels))
    return stages


def renamed(stages: list[nn.Sequential]) -> dict[str, torch.Tensor]:
    """Weights of the library's blocks under our names."""
    layers = {'conv1': 'pointwise', 'conv2': 'conv'}
    weights = {}
    for s, stage in enumerate(stages):
        last = UNITS[s]
        for key, value in stage.state_dict().items():
            index, *inner, layer, leaf = key.split('.')
            home = f'stage{s + 2}.{index}'
            if int(index) > last:
                home = f'stage{s + 2}.{last + 1}.bn'
            elif index == '0' and layer == 'conv':
                home += '.conv'
            elif index == '0':
                # What a transition begins with is where our stage ends.
                home = f'stage{s + 1}.{UNITS[s - 1] + 1}.bn'
            else:
                home += f'.{layers[inner[0]]}.{layer}'
            weights[f'{home}.{leaf}'] = value
    return {k: v for k, v in weights.items() if not k.startswith('stage1')}


@pytest.mark.parametrize('width', GROWTH)
def test_equals_pytorchcv_at_every_level(
    width, randomised, assert_same_values
):
    theirs = pytorchcv_stages(GROWTH[width])
    for stage in theirs:
        randomised(stage)
    # The stem normalises and activates already.
    theirs[0][0].conv.bn = nn.Identity()
    ours = randomised(DenseNet(width))
    missing, unexpected = ours.load_state_dict(renamed(theirs), strict=False)
    assert unexpected == []
    assert all(key.startswith('stem.') for key in missing)
    images = torch.randn(2, 3, 64, 96)
    x = ours.stem(images)
    expected = []
    for index, stage in enumerate(theirs):
        x = stage(x)
        if index < 2:
            # Up to where the next stage's transition convolves.
            end = theirs[index + 1][0].conv
            expected.append(end.activ(end.bn(x)))
    assert_same_values(ours(images), [*expected, x])


def test_norm_may_be_left_out():
    backbone = DenseNet(0.5, norm_cfg=None)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    features = backbone(torch.randn(1, 3, 32, 32))
    assert [f.shape[1] for f in features] == list(backbone.out_channels)
