"""Pretrained weights: what loads, what it says, what is refused."""

import http.server
import logging
import threading
from collections import OrderedDict
from functools import partial
from urllib.error import URLError

import cv2
import pytest
import torch
from authors_networks import shufflenet_v2, shufflenet_v2_weights
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_torchvision_models
from mmpretrain.models.backbones import ShuffleNetV2 as MMPretrainShuffleNetV2
from pytorchcv.models.mobilenetv2 import mobilenetv2b_w1
from pytorchcv.models.shufflenetv2b import shufflenetv2b_wd2
from torchvision import models
from torchvision.models import mobilenet_v2, resnet18, shufflenet_v2_x0_5

from mmdet_shufflenetv2.backbones import (
    MobileNetV1,
    ShuffleNetV2,
    StagedMobileNetV2,
)
from mmdet_shufflenetv2.backbones.input_fit import input_fit
from mmdet_shufflenetv2.backbones.pretrained import (
    PUBLIC_WEIGHTS,
    RESNETS,
    fetch_weights,
    load_pretrained,
    public_weights,
)
from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.compat.input_format import (
    NORMALISED_RGB,
    RAW_BGR,
    SCALED_BGR,
    SCALED_RGB,
)
from mmdet_shufflenetv2.errors import UserError

ALL_LEVELS = (0, 1, 2, 3)
IMAGES = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))


def loaded(path, kind=ShuffleNetV2, prefix=None, **config):
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    if prefix:
        init_cfg['prefix'] = prefix
    if 'style' in config:
        init_cfg['style'] = config['style']
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


@pytest.mark.parametrize('width', [0.5, 2.0])
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
    # So does mmengine's own loader.
    stock = ShuffleNetV2(width, out_indices=ALL_LEVELS)
    load_checkpoint(stock, str(path))
    assert_same_values(stock.eval()(IMAGES), torchvision_levels(theirs))


def test_the_authors_weights_load(saved, report, assert_same_values):
    weights = shufflenet_v2_weights(0.5)
    # Their files are saved from DataParallel.
    path = saved(
        {'state_dict': {f'module.{k}': v for k, v in weights.items()}}
    )
    ours = loaded(
        path, style='authors', widen_factor=0.5, out_indices=ALL_LEVELS
    )
    assert_same_values(ours(IMAGES), shufflenet_v2(weights, IMAGES))
    assert 'BGR 0-255' in report()


def test_mmpretrain_weights_load(saved, randomised, assert_same_values):
    theirs = randomised(MMPretrainShuffleNetV2(1.0, out_indices=ALL_LEVELS))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['head.fc.weight'] = torch.zeros(1000, 1024)
    path = saved({'meta': {'epoch': 3}, 'state_dict': weights})
    ours = loaded(path, out_indices=ALL_LEVELS)
    assert_same_values(ours(IMAGES), theirs(IMAGES))


@pytest.mark.parametrize(
    'build, kind, level',
    [
        (mobilenetv2b_w1, StagedMobileNetV2, 7),
        # At 0.5x only: its other widths mix the two styles.
        (shufflenetv2b_wd2, partial(ShuffleNetV2, 0.5), 3),
    ],
)
def test_pytorchcv_weights_load(
    build, kind, level, saved, randomised, assert_same_values
):
    theirs = randomised(build())
    path = saved(theirs.state_dict())
    ours = loaded(path, kind=kind, out_indices=(level,))
    theirs.features.final_pool = torch.nn.Identity()
    images = torch.randn(1, 3, 64, 64, dtype=torch.double)
    features = theirs.double().features(images)
    assert_same_values(ours.double()(images), [features])


def timm_names(theirs: StagedMobileNetV2) -> dict[str, torch.Tensor]:
    """As timm's ``mobilenetv2_100`` is written."""
    layers = dict(conv1=('conv_stem', 'bn1'), conv2=('conv_head', 'bn2'))
    weights = {}
    for key, value in theirs.state_dict().items():
        home, *inner, kind, leaf = key.split('.')
        if home.startswith('layer'):
            number, layer = inner
            first = home == 'layer1'
            home, names = (
                f'blocks.{int(home[5:]) - 1}.{number}.',
                {
                    'expand_conv': ('conv_pw', 'bn1'),
                    'depthwise_conv': ('conv_dw', 'bn1' if first else 'bn2'),
                    'linear_conv': (
                        ('conv_pw', 'bn2') if first else ('conv_pwl', 'bn3')
                    ),
                }[layer],
            )
        else:
            home, names = '', layers[home]
        weights[f'{home}{names[kind == "bn"]}.{leaf}'] = value
    return weights | {'classifier.weight': torch.zeros(1000, 1280)}


def test_timms_mobilenet_v2_loads(
    saved, randomised, report, assert_same_values
):
    theirs = randomised(StagedMobileNetV2())
    ours = loaded(saved(timm_names(theirs)), kind=StagedMobileNetV2)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'MobileNetV2 in the format of timm' in report()


def test_a_published_file_loads_whole_and_says_what_it_is(
    published_file, report
):
    ours = loaded(published_file, style='authors', widen_factor=0.5)
    weights = torch.load(published_file, 'cpu', weights_only=True)
    assert torch.equal(
        ours.stage4[3].branch2[5].weight,
        weights['stage4.3.branch_main.5.weight'],
    )
    assert f'Loaded {len(weights)} tensors' in report()
    assert 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of Fas' in report()
    assert ours.expected_input == SCALED_BGR


@pytest.mark.parametrize(
    'before, prefix',
    [
        ('module._orig_mod.', None),
        ('net.enc.', None),
        ('backbone.', None),
        ('backbone.', 'backbone'),
    ],
)
def test_what_stands_before_every_name_is_found(
    before, prefix, saved, randomised, report, assert_same_values
):
    theirs = randomised(ShuffleNetV2(0.5, out_indices=(0, 1)))
    weights = {before + k: v for k, v in theirs.state_dict().items()}
    if before == 'backbone.':
        weights['rpn_head.rpn_conv.weight'] = torch.zeros(1)
    ours = loaded(
        saved({'state_dict': weights}),
        prefix=prefix,
        widen_factor=0.5,
        out_indices=(0, 1),
    )
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert ('Ignored: rpn_head' in report()) == (before == 'backbone.')


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
    # Its own weights are its own.
    randomised(star)
    again = loaded(
        saved(star.state_dict()),
        widen_factor=0.5,
        receptive_field='enlarged',
        out_indices=ALL_LEVELS,
    )
    assert torch.equal(
        again.stage2[0].enlarge[0].weight, star.stage2[0].enlarge[0].weight
    )


@pytest.mark.parametrize(
    'config',
    [
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
    (former,) = (f for f in theirs.formats if f.is_former)
    weights = {former.to_theirs(k): v for k, v in theirs.state_dict().items()}
    assert 'stem.conv1.conv.weight' in weights
    pretrained = MODELS.build(config)
    load_pretrained(pretrained, str(saved(weights)))
    # As a detector's checkpoint is loaded, by mmengine or PyTorch.
    detector = torch.nn.ModuleDict(dict(backbone=MODELS.build(config)))
    weights = {f'backbone.{key}': value for key, value in weights.items()}
    load_checkpoint(detector, str(saved(weights)), strict=True)
    for ours in (pretrained, detector['backbone']):
        assert_same_values(ours.eval()(IMAGES), theirs(IMAGES))


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


def test_whose_order_of_channels_has_to_be_known(saved, randomised):
    # At 0.5x all shapes of both styles agree.
    weights = unknown_names(randomised(ShuffleNetV2(0.5, style='authors')))
    path = saved(weights)
    with pytest.raises(ValueError, match='one of torchvision, authors'):
        loaded(path, widen_factor=0.5)
    loaded(path, style='authors', widen_factor=0.5)
    # Words of somebody's own names tell too, and so do known names.
    for told in (
        {f'branch_main.{key}': value for key, value in weights.items()},
        shufflenet_v2_weights(0.5),
    ):
        with pytest.raises(ValueError, match="be 'authors', got 'torchvis"):
            loaded(saved(told), widen_factor=0.5)


@pytest.mark.parametrize('within', [False, True])
def test_mmengines_log_says_where_weights_are_from(
    within, saved, tmp_path, monkeypatch
):
    # Not the logger of another test's run.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    log = tmp_path / 'run.log'
    MMLogger.get_instance('run', log_file=str(log))
    # Fresh norms have the means of those loaded.
    path = saved(shufflenet_v2_x0_5().state_dict())
    init_cfg = [
        dict(type='Pretrained', checkpoint=str(path)),
        # Which weights from a file win over.
        dict(type='Constant', layer='Conv2d', val=3.0),
    ]
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, init_cfg=init_cfg)
    if within:
        model = MODELS.build(
            dict(type='SingleStageDetector', backbone=backbone, neck=None)
            | dict(
                bbox_head=dict(
                    type='RetinaHead', num_classes=1, in_channels=192
                )
            )
        )
    else:
        model = MODELS.build(backbone)
    model.init_weights()
    text = log.read_text()
    parameters = list(ShuffleNetV2(0.5).parameters())
    assert text.count(f'loaded from {path}') == len(parameters)
    assert within or 'same before and after' not in text


def refusal(path, **config) -> str:
    """What the error says; the backbone has to be as it was."""
    backbone = ShuffleNetV2(**{'widen_factor': 0.5, **config})
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(ValueError, match='checkpoint') as error:
        load_pretrained(backbone, str(path))
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert str(path) in str(error.value)
    return str(error.value)


def test_another_width_or_key_is_refused(saved):
    weights = shufflenet_v2_x0_5().state_dict()
    text = refusal(saved(weights), widen_factor=1.0)
    likeness = 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of torchvision'
    assert f'looks like {likeness}, but does not fit ShuffleNetV2' in text
    assert '2.weight (24, 24, 1, 1) instead of (58, 24, 1, 1)' in text
    name = 'stage3.2.branch2.0.weight'
    weights['stage3.9.branch2.0.weight'] = weights.pop(name)
    text = refusal(saved(weights))
    assert f'missing: {name}' in text
    assert 'unexpected: stage3.9.branch2.0.weight' in text


@pytest.mark.parametrize(
    'build, likeness',
    [
        (
            partial(ShuffleNetV2, 0.5, receptive_field='enlarged'),
            'shufflenet_v2_star_x0_5, ShuffleNetV2 in the format of mmdet_sh',
        ),
        (mobilenet_v2, 'MobileNetV2 in the format of torchvision'),
        (resnet18, 'ResNet in the format of torchvision'),
        (MobileNetV1, 'MobileNetV1 in the format of mmdet_shufflenetv2'),
    ],
)
def test_a_file_of_another_network_is_refused_with_its_name(
    build, likeness, saved
):
    with torch.device('meta'):
        weights = build().state_dict()
    path = saved({k: torch.zeros(v.shape) for k, v in weights.items()})
    assert f'looks like {likeness}' in refusal(path)


class Malicious:
    def __reduce__(self):
        return (exec, ('raise SystemExit("ran")',))


@pytest.mark.parametrize(
    'content', [{}, {'epoch': 3}, [1, 2], {'state_dict': Malicious()}]
)
def test_a_file_without_weights_or_with_code_is_refused(content, saved):
    refusal(saved(content))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_every_address_is_one_that_mmengine_knows():
    known = get_torchvision_models()
    for url in (*PUBLIC_WEIGHTS.values(), *RESNETS.values()):
        scheme, _, name = url.partition('://')
        assert scheme == 'https' or known[name].startswith('https://')
    assert set(PUBLIC_WEIGHTS) <= set(NETWORKS)


@pytest.mark.parametrize('receptive_field', ['standard', 'enlarged'])
def test_weights_come_out_of_the_cache(cache, receptive_field):
    backbone = dict(
        type='ShuffleNetV2',
        widen_factor=0.5,
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
    )
    if receptive_field == 'enlarged':
        backbone['receptive_field'] = receptive_field
    url = public_weights(backbone)
    weights = shufflenet_v2_x0_5().state_dict()
    torch.save(weights, cache / 'shufflenetv2_x0.5-f707e7126e.pth')
    fetch_weights(url)
    init_cfg = dict(type='Pretrained', checkpoint=url)
    model = MODELS.build(dict(backbone, init_cfg=init_cfg))
    model.init_weights()
    assert torch.equal(model.conv1[0].weight, weights['conv1.0.weight'])
    assert model.expected_input == NORMALISED_RGB


def test_weights_come_from_a_server(cache, tmp_path):
    torch.save(shufflenet_v2_x0_5().state_dict(), tmp_path / 'x.pth')
    handler = partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        fetch_weights(f'{url}/x.pth')
        with pytest.raises(UserError, match='File not found'):
            fetch_weights(f'{url}/y.pth')
        server.shutdown()
    assert (cache / 'x.pth').is_file()


def test_without_a_network_three_ways_are_named(cache, monkeypatch):
    def refuse(*_, **__):
        raise URLError('no network here')

    monkeypatch.setattr(torch.hub, 'urlopen', refuse)
    with pytest.raises(UserError) as error:
        fetch_weights(PUBLIC_WEIGHTS['shufflenet_v2_x0_5'])
    text = str(error.value)
    assert 'no network here' in text
    assert str(cache / 'shufflenetv2_x0.5-f707e7126e.pth') in text
    assert 'https://download.pytorch.org/models/shufflenetv2_x0.5' in text
    assert '--backbone-weights FILE' in text
    assert '--from-scratch' in text


@pytest.mark.parametrize(
    'backbone, known',
    [
        (dict(type='ShuffleNetV2', widen_factor=1.0), True),
        (dict(type='ShuffleNetV2', widen_factor=1.0, with_se=True), False),
        (
            dict(
                type='ShuffleNetV1',
                widen_factor=1.0,
                groups=3,
                style='mmpretrain',
            ),
            True,
        ),
        (dict(type='ResNet', depth=101), True),
        (dict(type='ResNet', depth=18), False),
        (dict(type='Xception', widen_factor=1.0), False),
    ],
)
def test_a_config_has_the_weights_of_its_network(backbone, known):
    assert (public_weights(backbone) is not None) == known


def photographs(count: int = 4) -> list[torch.Tensor]:
    """Smooth random colours, BGR, blue darker than red."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(low, (48, 64), mode='bilinear')
    return list(
        images.mul(torch.tensor([140, 180, 220.0])[:, None, None]).byte()
    )


@pytest.mark.parametrize('given', [NORMALISED_RGB, SCALED_RGB, RAW_BGR])
def test_the_first_norm_tells_what_a_network_was_trained_on(given):
    torch.manual_seed(0)
    backbone = ShuffleNetV2(0.5, out_indices=(0,)).train()
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (given.mean, given.std)
    )
    for _ in range(60):
        batch = torch.stack(photographs()).float()
        if given.channel_order == 'RGB':
            batch = batch.flip(1)
        backbone((batch - mean) / std)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    fit = input_fit(backbone, photographs())
    assert fit.norm == 'conv1.1'
    assert fit.best == given
    assert fit.fits(given)
    wrong = SCALED_BGR if given is not SCALED_RGB else RAW_BGR
    assert not fit.fits(wrong)
    assert f'as {given} they are' in fit.message(wrong)
    # The network is as it was.
    assert backbone.training
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.real_data
def test_published_weights_and_photographs_tell(published_file):
    init_cfg = dict(type='Pretrained', checkpoint=str(published_file))
    backbone = ShuffleNetV2(0.5, style='authors', init_cfg=init_cfg)
    backbone.init_weights()
    folder = published_file.parents[1] / 'data/coco_mini/val2017'
    images = [
        torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)
        for path in sorted(folder.glob('*.jpg'))[:16]
    ]
    fit = input_fit(backbone, images)
    assert fit.best == SCALED_BGR
    assert fit.offsets[SCALED_BGR] < 0.3
    assert not fit.fits(NORMALISED_RGB)
    assert not fit.fits(RAW_BGR)
