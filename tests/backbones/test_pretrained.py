"""Pretrained weights of ShuffleNet V2: formats, report, refusals."""

import logging

import pytest
import torch
from authors_networks import shufflenet_v2, shufflenet_v2_weights
from mmengine.logging import MMLogger
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from torchvision.models import (
    mobilenet_v2,
    shufflenet_v2_x0_5,
    shufflenet_v2_x1_0,
)

from mmdet_shufflenetv2.backbones import ShuffleNetV2


def loaded(path, prefix=None, **config) -> ShuffleNetV2:
    options = {} if prefix is None else dict(prefix=prefix)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), **options)
    backbone = ShuffleNetV2(init_cfg=init_cfg, **config)
    backbone.init_weights()
    return backbone.eval()


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


ALL_LEVELS = (0, 1, 2, 3)
IMAGES = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))


def test_torchvision_weights_load(
    saved, randomised, report, assert_same_values
):
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
def test_the_authors_weights_load(width, saved, report, assert_same_values):
    weights = shufflenet_v2_weights(width)
    # Their files are saved from DataParallel.
    path = saved(
        {'state_dict': {f'module.{k}': v for k, v in weights.items()}}
    )
    ours = loaded(
        path, widen_factor=width, out_indices=ALL_LEVELS, style='authors'
    )
    assert_same_values(ours(IMAGES), shufflenet_v2(weights, IMAGES))
    text = report()
    assert 'Ignored: classifier.0.weight.' in text
    assert 'BGR 0-255' in text


def test_weights_of_a_compiled_and_distributed_network_load(saved):
    ours = ShuffleNetV2(0.5)
    weights = {
        f'module._orig_mod.{k}': v for k, v in ours.state_dict().items()
    }
    again = loaded(saved({'state_dict': weights}), widen_factor=0.5)
    assert torch.equal(
        again.stem.conv1.conv.weight, ours.stem.conv1.conv.weight
    )


def test_mmpretrain_weights_load(
    saved, randomised, report, assert_same_values
):
    theirs = randomised(MMPretrainShuffleNetV2(1.0, out_indices=ALL_LEVELS))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['head.fc.weight'] = torch.zeros(1000, 1024)
    path = saved({'meta': {'epoch': 3}, 'state_dict': weights})
    ours = loaded(path, widen_factor=1.0, out_indices=ALL_LEVELS)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'mmpretrain format' in report()
    assert 'Ignored: head.fc.weight.' in report()


@pytest.mark.parametrize('given', [None, 'backbone', 'backbone.'])
def test_a_detectors_backbone_loads(
    given, saved, randomised, report, assert_same_values
):
    config = dict(widen_factor=0.5, out_indices=ALL_LEVELS)
    theirs = randomised(ShuffleNetV2(**config))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['rpn_head.rpn_conv.weight'] = torch.zeros(1)
    path = saved({'state_dict': weights})
    ours = loaded(path, prefix=given, **config)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'Ignored: rpn_head.rpn_conv.weight.' in report()


def test_a_bare_backbone_under_another_prefix_loads(
    saved, randomised, assert_same_values
):
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


def zeros_like(outlined) -> dict[str, torch.Tensor]:
    """Weights of a network on the meta device."""
    return {
        key: torch.zeros(value.shape)
        for key, value in outlined.state_dict().items()
    }


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
    likeness = 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of torchvision'
    assert f'looks like {likeness}, but does not fit ShuffleNetV2' in text
    assert (
        'stage2.0.branch1.2.weight (24, 24, 1, 1) instead of (58, 24, 1, 1)'
        in text
    )


def test_another_style_is_refused_even_where_shapes_agree(saved):
    path = saved(shufflenet_v2_weights(0.5))
    text = refusal(path, widen_factor=0.5)
    assert "style must be 'authors', got 'torchvision'" in text


def test_weights_without_the_layers_of_v2_star_are_refused(saved):
    path = saved(shufflenet_v2_x0_5().state_dict())
    text = refusal(path, widen_factor=0.5, receptive_field='enlarged')
    assert 'missing: stage2.0.branch2.enlarge.conv.weight' in text
    assert 'more' in text


@pytest.mark.parametrize(
    'config, name',
    [
        (dict(receptive_field='enlarged'), 'shufflenet_v2_star_x0_5, '),
        # A detector's, without conv5.
        (dict(widen_factor=1.5), 'shufflenet_v2_x1_5, '),
        (dict(widen_factor=2.0, with_se=True), 'se_shufflenet_v2_x2_0, '),
        # Nobody has published this one.
        (dict(with_se=True), ''),
    ],
)
def test_another_variant_is_refused_with_its_name(config, name, saved):
    with torch.device('meta'):
        theirs = ShuffleNetV2(**{'widen_factor': 0.5, **config})
    path = saved(zeros_like(theirs))
    text = refusal(path, widen_factor=0.5)
    likeness = f'{name}ShuffleNetV2 in the format of mmdet_shufflenetv2'
    assert f'looks like {likeness}, but does not fit' in text


def test_a_missing_and_a_surplus_key_are_named(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    weights['stage3.9.branch2.0.weight'] = weights.pop(
        'stage3.2.branch2.0.weight'
    )
    text = refusal(saved(weights), widen_factor=0.5)
    assert 'missing: stage3.2.branch2.pointwise1.conv.weight' in text
    assert 'unexpected: stage3.9.branch2.0.weight' in text


def test_a_prefix_that_is_not_there_is_refused(saved):
    path = saved({'neck.a': torch.zeros(1), 'head.b': torch.zeros(1)})
    text = refusal(path, prefix='backbone.')
    assert "has head., neck.; got 'backbone.'" in text
    path = saved(mobilenet_v2(width_mult=0.25).state_dict())
    text = refusal(path, prefix='backbone.')
    assert 'it looks like MobileNetV2 in the format of torchvision' in text


@pytest.mark.parametrize('content', [{}, {'epoch': 3}, [1, 2], 5])
def test_a_file_without_weights_is_refused(content, saved):
    text = refusal(saved(content))
    assert 'must hold named tensors' in text or 'must be a dict' in text


@pytest.mark.parametrize(
    'init_cfg, message',
    [
        ('x.pth', "a dict with a 'type', or a list of such, got 'x.pth'"),
        (['x.pth'], "a dict with a 'type'"),
        (dict(checkpoint='x.pth'), "a dict with a 'type'"),
        (dict(type='Pretrained'), "or address as 'checkpoint'"),
        (dict(type='Pretrained', checkpoint=None), "as 'checkpoint'"),
        (
            [dict(type='Pretrained', checkpoint='x.pth', prefx='backbone.')],
            'nothing but checkpoint, prefix, map_location, got',
        ),
    ],
)
def test_what_is_no_init_cfg_is_refused(init_cfg, message):
    with pytest.raises(ValueError, match='init_cfg') as error:
        ShuffleNetV2(0.5, out_indices=(0,), init_cfg=init_cfg)
    assert message in str(error.value)
    backbone = ShuffleNetV2(0.5, out_indices=(0,))
    # As mmengine lets a config's parent model set it later.
    backbone.init_cfg = init_cfg
    with pytest.raises(ValueError, match='init_cfg'):
        backbone.init_weights()


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
