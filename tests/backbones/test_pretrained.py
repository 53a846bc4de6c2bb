"""Pretrained weights: four formats, the report, and what is refused."""

import logging
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from torchvision.models import (
    mobilenet_v2,
    shufflenet_v2_x0_5,
    shufflenet_v2_x1_0,
)

from mmdet_shufflenetv2.backbones import ShuffleNetV2

WIDTHS = {
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    2.0: (24, 244, 488, 976, 2048),
}


def loaded(path, prefix=None, **config) -> ShuffleNetV2:
    options = {} if prefix is None else dict(prefix=prefix)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), **options)
    backbone = ShuffleNetV2(init_cfg=init_cfg, **config)
    backbone.init_weights()
    return backbone.eval()


@pytest.fixture
def saved(tmp_path):
    def save(content, name: str = 'weights.pth'):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def report(caplog):
    """The text that loading has logged."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield lambda: '\n'.join(
        text for text in caplog.messages if text.startswith('Loaded')
    )
    logger.removeHandler(caplog.handler)


def assert_same_values(actual, expected):
    """Equal within 1e-5 of the largest value."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        scale = b.abs().max()
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=1e-5)


def authors_weights(width: float) -> dict[str, torch.Tensor]:
    """Random weights under the keys of the authors' code."""
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def conv_bn(conv, bn, out_channels, in_channels, kernel):
        shape = (out_channels, in_channels, kernel, kernel)
        std = (2 / (in_channels * kernel * kernel)) ** 0.5
        weights[f'{conv}.weight'] = std * torch.randn(
            shape, generator=generator
        )
        for name, low in (
            ('weight', 0.5),
            ('bias', -0.5),
            ('running_mean', -0.5),
            ('running_var', 0.5),
        ):
            weights[f'{bn}.{name}'] = low + torch.rand(
                out_channels, generator=generator
            )
        weights[f'{bn}.num_batches_tracked'] = torch.tensor(7)

    channels = WIDTHS[width]
    conv_bn('first_conv.0', 'first_conv.1', channels[0], 3, 3)
    unit = 0
    for (before, after), repeats in zip(
        pairwise(channels[:-1]), (4, 8, 4), strict=True
    ):
        middle = after // 2
        for index in range(repeats):
            proj = f'features.{unit}.branch_proj'
            main = f'features.{unit}.branch_main'
            passed = before if index == 0 else middle
            if index == 0:
                conv_bn(f'{proj}.0', f'{proj}.1', before, 1, 3)
                conv_bn(f'{proj}.2', f'{proj}.3', before, before, 1)
            conv_bn(f'{main}.0', f'{main}.1', middle, passed, 1)
            conv_bn(f'{main}.3', f'{main}.4', middle, 1, 3)
            conv_bn(f'{main}.5', f'{main}.6', after - passed, middle, 1)
            unit += 1
    conv_bn('conv_last.0', 'conv_last.1', channels[4], channels[3], 1)
    weights['classifier.0.weight'] = torch.zeros(1000, channels[4])
    return weights


def authors_forward(weights, x) -> list[torch.Tensor]:
    """The authors' network: even channels pass, odd ones are transformed."""

    def conv_bn(x, conv, bn, stride=1, relu=True):
        kernel = weights[f'{conv}.weight']
        x = F.conv2d(
            x,
            kernel,
            stride=stride,
            padding=kernel.shape[-1] // 2,
            groups=x.shape[1] // kernel.shape[1],
        )
        x = F.batch_norm(
            x,
            *(
                weights[f'{bn}.{name}']
                for name in ('running_mean', 'running_var', 'weight', 'bias')
            ),
        )
        return x.relu() if relu else x

    x = conv_bn(x, 'first_conv.0', 'first_conv.1', 2)
    x = F.max_pool2d(x, 3, 2, 1)
    levels = []
    for unit in range(16):
        proj, main = (
            f'features.{unit}.branch_{name}' for name in ('proj', 'main')
        )
        opens = f'{proj}.0.weight' in weights
        if opens:
            levels.append(x)
            passed = conv_bn(x, f'{proj}.0', f'{proj}.1', 2, relu=False)
            passed = conv_bn(passed, f'{proj}.2', f'{proj}.3')
        else:
            passed, x = x[:, 0::2], x[:, 1::2]
        x = conv_bn(x, f'{main}.0', f'{main}.1')
        x = conv_bn(x, f'{main}.3', f'{main}.4', 2 if opens else 1, relu=False)
        x = conv_bn(x, f'{main}.5', f'{main}.6')
        x = torch.cat((passed, x), 1)
    levels.append(x)
    levels.append(conv_bn(x, 'conv_last.0', 'conv_last.1'))
    # The first one is the stem's.
    return levels[1:]


ALL_LEVELS = (0, 1, 2, 3)
IMAGES = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))


def test_torchvision_weights_load(saved, randomised, report):
    theirs = randomised(shufflenet_v2_x1_0())
    path = saved(theirs.state_dict())
    ours = loaded(path, widen_factor=1.0, out_indices=ALL_LEVELS)
    x = theirs.maxpool(theirs.conv1(IMAGES))
    levels = []
    for name in ('stage2', 'stage3', 'stage4', 'conv5'):
        x = getattr(theirs, name)(x)
        levels.append(x)
    assert_same_values(ours(IMAGES), levels)
    text = report()
    assert 'torchvision format' in text
    assert f'Loaded {len(ours.state_dict())} tensors' in text
    assert 'Ignored: fc.weight, fc.bias.' in text
    assert 'RGB' in text


@pytest.mark.parametrize('width', [0.5, 1.0, 2.0])
def test_the_authors_weights_load(width, saved, report):
    weights = authors_weights(width)
    # Their files are saved from DataParallel.
    path = saved(
        {'state_dict': {f'module.{k}': v for k, v in weights.items()}}
    )
    ours = loaded(
        path, widen_factor=width, out_indices=ALL_LEVELS, style='authors'
    )
    assert_same_values(ours(IMAGES), authors_forward(weights, IMAGES))
    text = report()
    assert 'Ignored: classifier.0.weight.' in text
    assert 'BGR 0-255' in text


def test_mmpretrain_weights_load(saved, randomised, report):
    theirs = randomised(MMPretrainShuffleNetV2(1.0, out_indices=ALL_LEVELS))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['head.fc.weight'] = torch.zeros(1000, 1024)
    path = saved({'meta': {'epoch': 3}, 'state_dict': weights})
    ours = loaded(path, widen_factor=1.0, out_indices=ALL_LEVELS)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'mmpretrain format' in report()
    assert 'Ignored: head.fc.weight.' in report()


@pytest.mark.parametrize('given', [None, 'backbone', 'backbone.'])
def test_a_detectors_backbone_loads(given, saved, randomised, report):
    config = dict(widen_factor=0.5, out_indices=ALL_LEVELS)
    theirs = randomised(ShuffleNetV2(**config))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['rpn_head.rpn_conv.weight'] = torch.zeros(1)
    path = saved({'state_dict': weights})
    ours = loaded(path, prefix=given, **config)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'Ignored: rpn_head.rpn_conv.weight.' in report()


def test_a_bare_backbone_under_another_prefix_loads(saved, randomised):
    theirs = randomised(ShuffleNetV2(0.5))
    path = saved({f'net.b.{k}': v for k, v in theirs.state_dict().items()})
    ours = loaded(path, prefix='net.b', widen_factor=0.5)
    assert_same_values(ours(IMAGES), theirs(IMAGES))


def test_levels_not_built_are_reported(saved, report):
    path = saved(shufflenet_v2_x0_5().state_dict())
    loaded(path, widen_factor=0.5, out_indices=(0, 1))
    text = report()
    assert (
        'Belongs to levels not built here: stage4.0.branch1.0.weight' in text
    )


def test_weights_without_batch_counters_load(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    path = saved({k: v for k, v in weights.items() if 'num_batches' not in k})
    ours = loaded(path, widen_factor=0.5)
    assert torch.equal(ours.stem.conv1.conv.weight, weights['conv1.0.weight'])


def refusal(path, **config) -> str:
    """What the error says; the backbone has to be as it was."""
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    init_cfg['prefix'] = config.pop('prefix', None)
    backbone = ShuffleNetV2(init_cfg=init_cfg, **config)
    backbone._is_init = True
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(ValueError, match='checkpoint') as error:
        backbone.init_weights()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert str(path) in str(error.value)
    return str(error.value)


def test_another_width_is_refused(saved):
    path = saved(shufflenet_v2_x0_5().state_dict())
    text = refusal(path, widen_factor=1.0)
    assert 'looks like torchvision' in text
    assert (
        'stage2.0.branch1.2.weight (24, 24, 1, 1) instead of (58, 24, 1, 1)'
        in text
    )


def test_another_style_is_refused_even_where_shapes_agree(saved):
    path = saved(authors_weights(0.5))
    text = refusal(path, widen_factor=0.5)
    assert "style must be 'authors', got 'torchvision'" in text


def test_weights_without_the_layers_of_v2_star_are_refused(saved):
    path = saved(shufflenet_v2_x0_5().state_dict())
    text = refusal(path, widen_factor=0.5, receptive_field='enlarged')
    assert 'missing: stage2.0.branch2.enlarge.conv.weight' in text
    assert 'more' in text


def test_a_missing_and_a_surplus_key_are_named(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    weights['stage3.9.branch2.0.weight'] = weights.pop(
        'stage3.2.branch2.0.weight'
    )
    text = refusal(saved(weights), widen_factor=0.5)
    assert 'missing: stage3.2.branch2.pointwise1.conv.weight' in text
    assert 'unexpected: stage3.9.branch2.0.weight' in text


def test_another_architecture_is_refused(saved):
    path = saved(mobilenet_v2().state_dict())
    text = refusal(path)
    assert 'none of the formats that ShuffleNetV2 reads' in text
    assert 'torchvision' in text
    assert 'features.0.0.weight' in text


def test_a_prefix_that_is_not_there_is_refused(saved):
    path = saved({'neck.a': torch.zeros(1), 'head.b': torch.zeros(1)})
    text = refusal(path, prefix='backbone.')
    assert "has head., neck.; got 'backbone.'" in text


@pytest.mark.parametrize('content', [{}, {'epoch': 3}, [1, 2], 5])
def test_a_file_without_weights_is_refused(content, saved):
    assert 'must hold named tensors' in refusal(saved(content))


class Malicious:
    def __reduce__(self):
        return (exec, ('raise SystemExit("ran")',))


def test_a_file_with_code_is_refused_and_nothing_runs(saved):
    refusal(saved({'state_dict': Malicious()}))


def test_pretrained_weights_win_over_other_initial_values(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    path = str(saved(weights))
    backbone = ShuffleNetV2(
        0.5,
        init_cfg=[
            dict(type='Pretrained', checkpoint=path),
            dict(type='Constant', layer='Conv2d', val=3.0),
        ],
    )
    backbone.init_weights()
    assert torch.equal(
        backbone.stem.conv1.conv.weight, weights['conv1.0.weight']
    )
