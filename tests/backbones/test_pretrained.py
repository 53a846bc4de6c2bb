"""Pretrained weights: what loads, what it says, what is refused.

That those of other projects load is in `test_parity`.
"""

from collections import OrderedDict
from functools import partial
from urllib.error import URLError

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_torchvision_models
from reference_networks import assert_same_values, randomised
from torchvision.models import mobilenet_v2, resnet18, shufflenet_v2_x0_5

from mmdet_shufflenetv2.backbones import (
    MobileNetV1,
    ShuffleNetV2,
    SNet,
    StagedMobileNetV2,
    Xception,
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
)
from mmdet_shufflenetv2.errors import UserError

V2 = partial(ShuffleNetV2, 0.5)
STAR = partial(V2, receptive_field='enlarged')
AUTHORS = partial(V2, style='authors')
assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)
IMAGES = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))


def loaded(path: str, build=V2, **options):
    """A backbone initialised from a file."""
    backbone = build()
    load_pretrained(backbone, path, **options)
    return backbone.eval()


@pytest.fixture
def report(monkeypatch):
    """The message about what was loaded."""
    messages = []
    monkeypatch.setattr(
        f'{load_pretrained.__module__}.print_log',
        lambda text, logger: messages.append(text),
    )
    return lambda: messages[0]


def test_torchvision_weights_load_and_are_recognised(written, report):
    weights = shufflenet_v2_x0_5().state_dict()
    ours = loaded(written(weights), partial(V2, out_indices=(3,)))
    # Therefore mmengine's own loader reads them too.
    assert weights.keys() - ours.state_dict() == {'fc.weight', 'fc.bias'}
    text = report()
    assert f'Loaded {len(ours.state_dict())} tensors' in text
    likeness = 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of torchvision'
    assert likeness in text
    assert 'Ignored: fc.weight, fc.bias.' in text
    assert 'Expected input: RGB' in text


# Written by hand, because timm is not installed for tests.
TIMM = {
    'conv_stem.weight': 'conv1.conv.weight',
    'bn1.bias': 'conv1.bn.bias',
    # The first block has no expansion.
    'blocks.0.0.bn1.bias': 'layer1.0.depthwise_conv.bn.bias',
    'blocks.0.0.conv_pw.weight': 'layer1.0.linear_conv.conv.weight',
    'blocks.5.2.conv_pw.weight': 'layer6.2.expand_conv.conv.weight',
    'blocks.5.2.bn2.weight': 'layer6.2.depthwise_conv.bn.weight',
    'bn2.running_mean': 'conv2.bn.running_mean',
}


def test_timms_names_of_mobilenet_v2():
    (timm,) = (f for f in StagedMobileNetV2().formats if f.name == 'timm')
    assert {name: timm.to_ours(name) for name in TIMM} == TIMM


@pytest.mark.parametrize(
    'before, prefix',
    [
        ('module._orig_mod.', None),
        ('net.enc.', None),
        ('backbone.', None),
        ('backbone.', 'backbone'),
    ],
)
def test_prefixes_are_detected(before, prefix, written, report):
    theirs = randomised(V2(out_indices=(0, 1)))
    weights = {before + k: v for k, v in theirs.state_dict().items()}
    if before == 'backbone.':
        # A usual prefix wins.
        others = {f'ema.{key}': 0 * value for key, value in weights.items()}
        head = {'rpn_head.rpn_conv.weight': torch.zeros(1)}
        weights = head | others | weights
    build = partial(V2, out_indices=(0, 1))
    wrapped = {'state_dict' if prefix else 'model_ema': weights}
    ours = loaded(written(wrapped), build, prefix=prefix)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert ('Ignored: rpn_head' in report()) == (before == 'backbone.')


def test_two_backbones_in_a_file_need_a_prefix(written):
    weights = {
        f'{who}.backbone.{key}': value + (who == 'teacher')
        for key, value in V2().state_dict().items()
        for who in ('student', 'teacher')
    }
    path = written(weights)
    with pytest.raises(ValueError, match='prefix to be one of student'):
        loaded(path)
    ours = loaded(path, prefix='teacher.backbone')
    key = 'teacher.backbone.conv1.0.weight'
    assert torch.equal(ours.conv1[0].weight, weights[key])


@pytest.mark.parametrize('kind', [V2, partial(SNet, 49)])
def test_v2_star_with_v2_weights_equals_v2(kind, written, report):
    theirs = randomised(kind(out_indices=(0, 1, 2, 3)))
    build = partial(kind, receptive_field='enlarged', out_indices=(0, 1, 2, 3))
    star = loaded(written(theirs.state_dict()), build)
    assert_same_values(star(IMAGES), theirs(IMAGES))
    assert 'initialised as identities: stage2.0.enlarge.0' in report()
    # Weights of V2* itself load unchanged.
    randomised(star)
    again = loaded(written(star.state_dict()), build)
    assert_same_values(again(IMAGES), star(IMAGES))


@pytest.mark.parametrize(
    'kind',
    [
        partial(STAR, with_se=True),
        partial(ShuffleNetV2, arch='se_v2_164', out_indices=(0,)),
        partial(StagedMobileNetV2, 0.15),
    ],
)
def test_former_names_load_with_every_loader(kind, written):
    theirs = randomised(kind())
    (former,) = (f for f in theirs.formats if f.is_former)
    weights = {former.to_theirs(k): v for k, v in theirs.state_dict().items()}
    assert 'stem.conv1.conv.weight' in weights
    pretrained = loaded(written(weights), kind)
    # mmengine and PyTorch load a detector's checkpoint like this.
    detector = torch.nn.ModuleDict(dict(backbone=kind()))
    weights = {f'backbone.{key}': value for key, value in weights.items()}
    load_checkpoint(detector, written(weights), strict=True)
    for ours in (pretrained, detector['backbone']):
        assert_same_values(ours.eval()(IMAGES), theirs(IMAGES))


def unknown_names(theirs) -> dict[str, torch.Tensor]:
    """Weights with made-up names and the second branch first."""
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
    'kind',
    [ShuffleNetV2, partial(ShuffleNetV2, style='authors'), Xception],
)
def test_unknown_names_load_where_tensors_fit_one_to_one(
    kind, written, report
):
    theirs = randomised(kind())
    ours = loaded(written(unknown_names(theirs)), kind)
    assert_same_values(ours(IMAGES), theirs(IMAGES))
    assert 'unknown names' in report()
    assert 'Ignored: last.weight' in report()


def test_an_ambiguous_style_must_be_set(written):
    # At 0.5x both styles have the same shapes.
    theirs = AUTHORS()
    path = written(unknown_names(theirs))
    with pytest.raises(ValueError, match='one of torchvision, authors'):
        loaded(path)
    loaded(path, AUTHORS, style='authors')
    # Known names determine the style.
    (known,) = (f for f in theirs.formats if f.name == 'authors')
    named = {known.to_theirs(k): v for k, v in theirs.state_dict().items()}
    with pytest.raises(ValueError, match="style 'authors', got 'torchv"):
        loaded(written(named))


def test_mmengines_log_says_where_weights_are_from(
    written, tmp_path, monkeypatch
):
    # Drop loggers of other tests.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    log = tmp_path / 'run.log'
    MMLogger.get_instance('run', log_file=str(log))
    # The loaded norms have the same means as new ones.
    path = written(shufflenet_v2_x0_5().state_dict())
    init_cfg = [
        dict(type='Pretrained', checkpoint=path),
        # Weights from the file must win.
        dict(type='Constant', layer='Conv2d', val=3.0),
    ]
    backbone = V2(init_cfg=init_cfg)
    backbone.init_weights()
    text = log.read_text()
    count = text.count(f'loaded from {path}')
    assert count == len(list(backbone.parameters()))
    assert 'same before and after' not in text


def refusal(path: str, **config) -> str:
    """The error message; also checks that the backbone is unchanged."""
    backbone = ShuffleNetV2(**{'widen_factor': 0.5, **config})
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(ValueError, match='checkpoint') as error:
        load_pretrained(backbone, path)
    assert_equal(dict(backbone.state_dict()), before)
    assert path in str(error.value)
    return str(error.value)


def test_another_width_or_unknown_key_is_rejected(written):
    weights = shufflenet_v2_x0_5().state_dict()
    text = refusal(written(weights), widen_factor=1.0)
    likeness = 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of torchvision'
    assert f'looks like {likeness}, but does not fit ShuffleNetV2' in text
    assert 'branch1.2.weight (checkpoint (24, 24, 1, 1), model (58, 24' in text
    name = 'stage3.2.branch2.0.weight'
    weights['stage3.9.branch2.0.weight'] = weights.pop(name)
    text = refusal(written(weights))
    assert f'1 missing in the checkpoint: {name}' in text
    assert '1 unknown to the model: stage3.9.branch2.0.weight' in text


@pytest.mark.parametrize(
    'build, likeness',
    [
        (
            STAR,
            'shufflenet_v2_star_x0_5, ShuffleNetV2 in the format of mmdet_',
        ),
        (mobilenet_v2, 'MobileNetV2 in the format of torchvision'),
        (resnet18, 'ResNet in the format of torchvision'),
        (MobileNetV1, 'MobileNetV1 in the format of mmdet_shufflenetv2'),
    ],
)
def test_the_error_names_the_network_of_a_wrong_file(build, likeness, written):
    with torch.device('meta'):
        weights = build().state_dict()
    path = written({k: torch.zeros(v.shape) for k, v in weights.items()})
    assert f'looks like {likeness}' in refusal(path)


class Malicious:
    def __reduce__(self):
        return (exec, ('raise SystemExit("ran")',))


@pytest.mark.parametrize(
    'content', [{}, {'epoch': 3}, [1, 2], {'state_dict': Malicious()}]
)
def test_a_file_without_weights_or_with_code_is_rejected(content, written):
    refusal(written(content))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_mmengine_knows_every_url():
    known = get_torchvision_models()
    for url in (*PUBLIC_WEIGHTS.values(), *RESNETS.values()):
        scheme, _, name = url.partition('://')
        assert scheme == 'https' or known[name].startswith('https://')
    assert set(PUBLIC_WEIGHTS) <= set(NETWORKS)
    assert public_weights(dict(type='ResNet', depth=101)) == RESNETS[101]
    for name in 'se_shufflenet_v2_x2_0', 'xception_x1_0':
        assert public_weights(NETWORKS[name].config) is None


@pytest.mark.parametrize('changes', [{}, dict(receptive_field='enlarged')])
def test_weights_load_from_the_cache(cache, changes):
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, **changes)
    url = public_weights(dict(backbone, strides=(2, 2, 1)))
    weights = shufflenet_v2_x0_5().state_dict()
    torch.save(weights, cache / 'shufflenetv2_x0.5-f707e7126e.pth')
    fetch_weights(url)
    init_cfg = dict(type='Pretrained', checkpoint=url)
    model = MODELS.build(dict(backbone, init_cfg=init_cfg))
    model.init_weights()
    assert torch.equal(model.conv1[0].weight, weights['conv1.0.weight'])
    assert model.expected_input == NORMALISED_RGB


def test_without_internet_three_alternatives_are_listed(cache, monkeypatch):
    def refuse(*_, **__):
        raise URLError('no network here')

    monkeypatch.setattr(torch.hub, 'urlopen', refuse)
    with pytest.raises(UserError, match='no network here') as error:
        fetch_weights(PUBLIC_WEIGHTS['shufflenet_v2_x0_5'])
    for way in (
        str(cache / 'shufflenetv2_x0.5-f707e7126e.pth'),
        'https://download.pytorch.org/models/shufflenetv2_x0.5',
        *('--backbone-weights FILE', '--from-scratch'),
    ):
        assert way in str(error.value)


@pytest.mark.real_data
def test_a_published_file_loads_and_photographs_reveal_its_input(
    real_data, report
):
    path = real_data.parent / 'weights/shufflenetv2_x0_5_imagenet.pth'
    ours = loaded(str(path), AUTHORS)
    weights = torch.load(path, 'cpu', weights_only=True)
    last = weights['stage4.3.branch_main.5.weight']
    assert torch.equal(ours.stage4[3].branch2[5].weight, last)
    assert f'Loaded {len(weights)} tensors' in report()
    assert 'shufflenet_v2_x0_5, ShuffleNetV2 in the format of Fas' in report()
    assert ours.expected_input == SCALED_BGR
    images = [
        torch.from_numpy(cv2.imread(str(image))).permute(2, 0, 1)
        for image in sorted((real_data / 'coco_mini/val2017').glob('*'))[:16]
    ]
    fit = input_fit(ours, images)
    assert fit.best == SCALED_BGR
    assert fit.offsets[SCALED_BGR] < 0.3
    assert not fit.fits(NORMALISED_RGB)
    assert not fit.fits(RAW_BGR)
