"""Pretrained weights: what loads, what it says, what is refused."""

import logging
from collections import OrderedDict

import pytest
import torch
from authors_networks import shufflenet_v2, shufflenet_v2_weights
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from pytorchcv.models.igcv3 import igcv3_wd4
from pytorchcv.models.mobilenet import mobilenet_wd4
from pytorchcv.models.mobilenetv2 import mobilenetv2b_w1
from pytorchcv.models.shufflenet import shufflenet_g1_wd2
from torchvision import models
from torchvision.models import mobilenet_v2, resnet18, shufflenet_v2_x0_5

from mmdet_shufflenetv2.backbones import (
    MobileNetV1,
    ShuffleNetV2,
    StagedMobileNetV2,
)
from mmdet_shufflenetv2.backbones.pretrained import load_pretrained
from mmdet_shufflenetv2.compat.input_format import SCALED_BGR

ALL_LEVELS = (0, 1, 2, 3)
IMAGES = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))


def loaded(path, prefix=None, kind=ShuffleNetV2, style=None, **config):
    options = dict(prefix=prefix, style=style)
    options = {k: v for k, v in options.items() if v is not None}
    init_cfg = dict(type='Pretrained', checkpoint=str(path), **options)
    if style:
        config['style'] = style
    backbone = kind(init_cfg=init_cfg, **config)
    backbone.init_weights()
    return backbone.eval()


@pytest.fixture
def report(caplog):
    """The sentence on what was loaded."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield lambda: next(
        text for text in caplog.messages if text.startswith('Loaded')
    )
    logger.removeHandler(caplog.handler)


def torchvision_levels(theirs) -> list[torch.Tensor]:
    x = theirs.maxpool(theirs.conv1(IMAGES))
    levels = []
    for name in ('stage2', 'stage3', 'stage4', 'conv5'):
        x = getattr(theirs, name)(x)
        levels.append(x)
    return levels


@pytest.mark.parametrize('width', [0.5, 1.0, 1.5, 2.0])
def test_torchvision_weights_load_and_give_its_features(
    width, saved, randomised, report, assert_same_values
):
    name = f'shufflenet_v2_x{width}'.replace('.', '_')
    theirs = randomised(getattr(models, name)())
    path = saved(theirs.state_dict())
    ours = loaded(path, widen_factor=width, out_indices=ALL_LEVELS)
    assert_same_values(ours(IMAGES), torchvision_levels(theirs))
    text = report()
    assert f'Loaded {len(ours.state_dict())} tensors' in text
    assert f'{name}, ShuffleNetV2 in the format of torchvision' in text
    assert 'Ignored: fc.weight, fc.bias.' in text
    assert 'Images it expects: RGB' in text


def test_mmengines_own_loader_takes_torchvision_weights_too(
    saved, randomised, assert_same_values
):
    theirs = randomised(shufflenet_v2_x0_5())
    ours = ShuffleNetV2(0.5, out_indices=ALL_LEVELS)
    load_checkpoint(ours, str(saved(theirs.state_dict())))
    assert_same_values(ours.eval()(IMAGES), torchvision_levels(theirs))


@pytest.mark.parametrize('width', [0.5, 1.0, 2.0])
def test_the_authors_weights_load(width, saved, report, assert_same_values):
    weights = shufflenet_v2_weights(width)
    # Their files are saved from DataParallel.
    path = saved(
        {'state_dict': {f'module.{k}': v for k, v in weights.items()}}
    )
    ours = loaded(
        path, style='authors', widen_factor=width, out_indices=ALL_LEVELS
    )
    assert_same_values(ours(IMAGES), shufflenet_v2(weights, IMAGES))
    assert 'Ignored: classifier.0.weight.' in report()
    assert 'BGR 0-255' in report()


def test_mmpretrain_weights_load(
    saved, randomised, report, assert_same_values
):
    theirs = randomised(MMPretrainShuffleNetV2(1.0, out_indices=ALL_LEVELS))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['head.fc.weight'] = torch.zeros(1000, 1024)
    path = saved({'meta': {'epoch': 3}, 'state_dict': weights})
    ours = loaded(path, widen_factor=1.0, out_indices=ALL_LEVELS)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'Ignored: head.fc.weight.' in report()


def test_a_published_file_loads_whole_and_says_what_it_is(
    published_file, report
):
    path = published_file
    ours = loaded(path, style='authors', widen_factor=0.5)
    weights = torch.load(path, 'cpu', weights_only=True)
    assert torch.equal(
        ours.stage4[3].branch2[5].weight,
        weights['stage4.3.branch_main.5.weight'],
    )
    text = report()
    assert f'Loaded {len(weights)} tensors' in text
    assert 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of Fast' in text
    assert ours.expected_input == SCALED_BGR


@pytest.mark.parametrize(
    'before', ['module.', 'module._orig_mod.', 'model.backbone.', 'net.enc.']
)
def test_what_stands_before_every_name_is_found(
    before, saved, randomised, assert_same_values
):
    theirs = randomised(ShuffleNetV2(0.5))
    weights = {before + k: v for k, v in theirs.state_dict().items()}
    ours = loaded(saved({'state_dict': weights}), widen_factor=0.5)
    assert_same_values(ours(IMAGES), theirs(IMAGES))


@pytest.mark.parametrize('given', [None, 'backbone', 'backbone.'])
def test_a_detectors_backbone_loads(
    given, saved, randomised, report, assert_same_values
):
    config = dict(widen_factor=0.5, out_indices=ALL_LEVELS)
    theirs = randomised(ShuffleNetV2(**config))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['rpn_head.rpn_conv.weight'] = torch.zeros(1)
    ours = loaded(saved({'state_dict': weights}), prefix=given, **config)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'Ignored: rpn_head.rpn_conv.weight.' in report()


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_snets_own_weights_load(prefix, saved):
    config = dict(type='SNet', depth=49, out_indices=(0, 1))
    theirs = MODELS.build(config)
    state = theirs.state_dict()
    path = saved({f'{prefix}{key}': value for key, value in state.items()})
    ours = MODELS.build(config)
    load_pretrained(ours, str(path))
    assert torch.equal(ours.conv1[0].weight, theirs.conv1[0].weight)


def test_two_backbones_in_a_file_need_a_prefix(saved):
    weights = {
        f'{who}.backbone.{key}': value + (who == 'teacher')
        for key, value in ShuffleNetV2(0.5).state_dict().items()
        for who in ('student', 'teacher')
    }
    path = saved(weights)
    with pytest.raises(ValueError, match='prefix must be one of student'):
        loaded(path, widen_factor=0.5)
    ours = loaded(path, prefix='teacher.backbone', widen_factor=0.5)
    key = 'teacher.backbone.conv1.0.weight'
    assert torch.equal(ours.conv1[0].weight, weights[key])


def test_levels_not_built_are_reported(saved, report):
    path = saved(shufflenet_v2_x0_5().state_dict())
    loaded(path, widen_factor=0.5, out_indices=(0, 1))
    assert (
        'Belongs to levels not built here: stage4.0.branch1.0.weight'
    ) in report()


def test_weights_without_batch_counters_load(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    path = saved({k: v for k, v in weights.items() if 'num_batches' not in k})
    ours = loaded(path, widen_factor=0.5)
    assert torch.equal(ours.conv1[0].weight, weights['conv1.0.weight'])


def test_v2_star_starts_from_v2s_weights_and_computes_the_same(
    saved, randomised, report
):
    theirs = randomised(ShuffleNetV2(0.5, out_indices=ALL_LEVELS))
    star = loaded(
        saved(theirs.state_dict()),
        widen_factor=0.5,
        receptive_field='enlarged',
        out_indices=ALL_LEVELS,
    )
    for a, b in zip(star(IMAGES), theirs(IMAGES), strict=True):
        torch.testing.assert_close(a, b)
    assert 'pass their input on unchanged: stage2.0.enlarge.0' in report()


def former_names(backbone) -> dict[str, torch.Tensor]:
    (former,) = (f for f in backbone.formats if f.is_former)
    return {
        former.to_theirs(key): value
        for key, value in backbone.state_dict().items()
    }


@pytest.mark.parametrize(
    'config',
    [
        dict(type='ShuffleNetV2', widen_factor=0.5, out_indices=ALL_LEVELS),
        dict(
            type='ShuffleNetV2',
            widen_factor=0.5,
            with_se=True,
            receptive_field='enlarged',
        ),
        dict(type='ShuffleNetV2', arch='se_v2_164', out_indices=(0,)),
        dict(type='StagedMobileNetV2', widen_factor=0.15),
    ],
)
def test_former_names_load_whoever_loads_them(
    config, saved, randomised, assert_same_values
):
    theirs = randomised(MODELS.build(config))
    weights = former_names(theirs)
    assert 'stem.conv1.conv.weight' in weights
    assert None not in weights
    pretrained = MODELS.build(config)
    load_pretrained(pretrained, str(saved(weights)))
    # As a detector's checkpoint is loaded, by mmengine or PyTorch.
    detector = torch.nn.ModuleDict(dict(backbone=MODELS.build(config)))
    weights = {f'backbone.{key}': value for key, value in weights.items()}
    load_checkpoint(detector, str(saved(weights)), strict=True)
    for ours in (pretrained, detector['backbone']):
        assert_same_values(ours.eval()(IMAGES), theirs(IMAGES))


def timm_names(theirs: StagedMobileNetV2) -> dict[str, torch.Tensor]:
    """As timm's ``mobilenetv2_100`` and ``_140`` are written."""
    first = {
        'depthwise_conv': ('conv_dw', 'bn1'),
        'linear_conv': ('conv_pw', 'bn2'),
    }
    rest = {
        'expand_conv': ('conv_pw', 'bn1'),
        'depthwise_conv': ('conv_dw', 'bn2'),
        'linear_conv': ('conv_pwl', 'bn3'),
    }
    weights = {}
    for key, value in theirs.state_dict().items():
        home, *inner, kind, leaf = key.split('.')
        if home.startswith('layer'):
            number, layer = inner
            names = (first if home == 'layer1' else rest)[layer]
            home = f'blocks.{int(home[5:]) - 1}.{number}.'
        else:
            names = {
                'conv1': ('conv_stem', 'bn1'),
                'conv2': ('conv_head', 'bn2'),
            }[home]
            home = ''
        weights[f'{home}{names[kind == "bn"]}.{leaf}'] = value
    weights['classifier.weight'] = torch.zeros(1000, 1280)
    weights['classifier.bias'] = torch.zeros(1000)
    return weights


@pytest.mark.parametrize('width', [1.0, 1.4])
def test_timms_mobilenet_v2_loads(
    width, saved, randomised, report, assert_same_values
):
    theirs = randomised(StagedMobileNetV2(width))
    path = saved(timm_names(theirs))
    ours = loaded(path, kind=StagedMobileNetV2, widen_factor=width)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'MobileNetV2 in the format of timm' in report()


def test_pytorchcvs_mobilenet_v2b_loads(
    saved, randomised, report, assert_same_values
):
    theirs = randomised(mobilenetv2b_w1())
    path = saved(theirs.state_dict())
    ours = loaded(path, kind=StagedMobileNetV2, out_indices=(7,))
    theirs.features.final_pool = torch.nn.Identity()
    images = torch.randn(1, 3, 64, 64, dtype=torch.double)
    features = theirs.double().features(images)
    assert_same_values(ours.double()(images), [features])
    assert 'mobilenet_v2_x1_0, MobileNetV2 in the format of pyt' in report()


def unknown_names(theirs) -> dict[str, torch.Tensor]:
    """Names that nobody uses, and the second branch in front."""
    units = {}
    for key, value in theirs.state_dict().items():
        name, _, leaf = key.rpartition('.')
        unit = units.setdefault('.'.join(name.split('.')[:2]), ([], []))
        if leaf != 'num_batches_tracked':
            unit['branch1' in name].append((leaf, value))
    entries = [e for parts in units.values() for part in parts for e in part]
    weights = {f'x.{i}.{k}': v for i, (k, v) in enumerate(entries)}
    weights['last.weight'] = torch.zeros(5, theirs.out_channels[-1])
    return weights


@pytest.mark.parametrize(
    'config',
    [
        dict(type='ShuffleNetV2', widen_factor=1.0),
        dict(type='ShuffleNetV2', widen_factor=1.0, style='authors'),
        dict(type='MobileNetV1', widen_factor=0.25),
        dict(type='Xception', widen_factor=0.5),
    ],
    ids=str,
)
def test_unknown_names_load_where_tensors_fit_one_to_one(
    config, saved, randomised, report, assert_same_values
):
    theirs = randomised(MODELS.build(config))
    path = saved(unknown_names(theirs))
    ours = MODELS.build(config)
    load_pretrained(ours, str(path))
    assert_same_values(ours.eval()(IMAGES), theirs(IMAGES))
    assert 'unknown names' in report()
    assert 'Ignored: last.weight' in report()


def test_unknown_names_of_another_width_are_refused(saved):
    path = saved(unknown_names(MobileNetV1(0.5)))
    with pytest.raises(ValueError, match=r'do not fit stem\.conv1'):
        loaded(path, kind=MobileNetV1, widen_factor=0.25)


def test_whose_order_of_channels_has_to_be_known(
    saved, randomised, assert_same_values
):
    # At 0.5x all shapes of both styles agree.
    theirs = randomised(ShuffleNetV2(0.5, style='authors'))
    path = saved(unknown_names(theirs))
    with pytest.raises(ValueError, match='one of torchvision, authors'):
        loaded(path, widen_factor=0.5)
    ours = loaded(path, style='authors', widen_factor=0.5)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    # Words of somebody's own names tell too.
    weights = {
        f'branch_main.{key}': value
        for key, value in unknown_names(theirs).items()
    }
    with pytest.raises(ValueError, match="style must be 'authors', got 'to"):
        loaded(saved(weights), widen_factor=0.5)


def test_mmengines_log_says_where_weights_are_from(
    saved, tmp_path, monkeypatch
):
    # Not the logger of another test's run.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    log = tmp_path / 'run.log'
    MMLogger.get_instance('run', log_file=str(log))
    # Fresh norms have the means of those loaded.
    path = saved(shufflenet_v2_x0_5().state_dict())
    loaded(path, widen_factor=0.5)
    text = log.read_text()
    parameters = list(ShuffleNetV2(0.5).parameters())
    assert text.count(f'loaded from {path}') == len(parameters)
    assert 'same before and after' not in text


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
    assert torch.equal(backbone.conv1[0].weight, weights['conv1.0.weight'])


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
    weights = {k: torch.zeros(v.shape) for k, v in theirs.state_dict().items()}
    text = refusal(saved(weights), widen_factor=0.5)
    likeness = f'{name}ShuffleNetV2 in the format of mmdet_shufflenetv2'
    assert f'looks like {likeness}, but does not fit' in text


def test_a_missing_and_a_surplus_key_are_named(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    weights['stage3.9.branch2.0.weight'] = weights.pop(
        'stage3.2.branch2.0.weight'
    )
    text = refusal(saved(weights), widen_factor=0.5)
    assert 'missing: stage3.2.branch2.0.weight' in text
    assert 'unexpected: stage3.9.branch2.0.weight' in text


def test_a_prefix_that_is_not_there_is_refused(saved):
    path = saved({'neck.a': torch.zeros(1), 'head.b': torch.zeros(1)})
    text = refusal(path, prefix='backbone.')
    assert "has head., neck.; got 'backbone.'" in text


@pytest.mark.parametrize('content', [{}, {'epoch': 3}, [1, 2], 5])
def test_a_file_without_weights_is_refused(content, saved):
    text = refusal(saved(content))
    assert 'must hold named tensors' in text or 'must be a dict' in text


class Malicious:
    def __reduce__(self):
        return (exec, ('raise SystemExit("ran")',))


def test_a_file_with_code_is_refused_and_nothing_runs(saved):
    refusal(saved({'state_dict': Malicious()}))


@pytest.mark.parametrize(
    'init_cfg, message',
    [
        ('x.pth', "a dict with a 'type', or a list of such, got 'x.pth'"),
        (['x.pth'], "a dict with a 'type'"),
        (dict(checkpoint='x.pth'), "a dict with a 'type'"),
        (dict(type='Pretrained'), "or address as 'checkpoint'"),
        (
            [dict(type='Pretrained', checkpoint='x.pth', prefx='backbone.')],
            'nothing but checkpoint, prefix, map_location, style, got',
        ),
    ],
)
def test_a_bad_init_cfg_is_refused(init_cfg, message):
    with pytest.raises(ValueError, match='init_cfg') as error:
        ShuffleNetV2(0.5, out_indices=(0,), init_cfg=init_cfg)
    assert message in str(error.value)
    backbone = ShuffleNetV2(0.5, out_indices=(0,))
    # As mmengine lets a config's parent model set it later.
    backbone.init_cfg = init_cfg
    with pytest.raises(ValueError, match='init_cfg'):
        backbone.init_weights()


FAMILIES = {
    'ShuffleNetV2': dict(type='ShuffleNetV2', widen_factor=0.5),
    'ShuffleNetV1': dict(type='ShuffleNetV1', widen_factor=0.5),
    'MobileNetV1': dict(type='MobileNetV1', widen_factor=0.25),
    'MobileNetV2': dict(type='StagedMobileNetV2', widen_factor=0.15),
    'Xception': dict(type='Xception', widen_factor=0.5),
    'DenseNet': dict(type='DenseNet', widen_factor=0.5),
    'IGCV2': dict(type='IGCV2', widen_factor=0.25),
    'PNASNet': dict(type='PNASNet', out_indices=(0, 1)),
    'IGCV3': dict(type='PytorchcvBackbone', arch='igcv3_d_x0_7'),
}
FOREIGN = {
    'ShuffleNetV2 in the format of torchvision': shufflenet_v2_x0_5,
    'ShuffleNetV1 in the format of pytorchcv': shufflenet_g1_wd2,
    'MobileNetV1 in the format of pytorchcv': mobilenet_wd4,
    'IGCV3 in the format of pytorchcv': igcv3_wd4,
    'MobileNetV2 in the format of torchvision': mobilenet_v2,
    'ResNet in the format of torchvision': resnet18,
}


def test_a_file_of_another_family_is_refused_with_its_name(saved):
    with torch.device('meta'):
        backbones = {k: MODELS.build(v) for k, v in FAMILIES.items()}
        files = {
            f'{family} in the format of mmdet_shufflenetv2': backbone
            for family, backbone in backbones.items()
        }
        files |= {name: build() for name, build in FOREIGN.items()}
    for likeness, theirs in files.items():
        path = saved(
            {k: torch.zeros(v.shape) for k, v in theirs.state_dict().items()}
        )
        for family, backbone in backbones.items():
            if not likeness.startswith(f'{family} '):
                with pytest.raises(ValueError, match='none of the') as error:
                    load_pretrained(backbone, str(path))
                assert f'it looks like {likeness}' in str(error.value)
