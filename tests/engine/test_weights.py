"""A run starts from a backbone's file or a detector of other classes."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.engine import run_data
from mmdet_shufflenetv2.engine.runner import CheckpointMismatch, load_fitting
from mmdet_shufflenetv2.engine.weights import (
    load_other_classes,
    use_backbone_weights,
)


@pytest.fixture
def cfg():
    return Config(dict(model=dict(backbone=dict(type='ResNet', depth=18))))


@pytest.fixture
def saved(tmp_path):
    def save(content) -> str:
        torch.save(content, tmp_path / 'weights.pth')
        return str(tmp_path / 'weights.pth')

    return save


@pytest.fixture(scope='module')
def resnet18() -> dict:
    """torchvision's, with its classifier."""
    torch.manual_seed(0)
    return models.resnet18().state_dict()


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


def without_counters(state: dict) -> dict:
    return {k: v for k, v in state.items() if not k.endswith('_tracked')}


def in_detector(state: dict) -> dict:
    return {**under('backbone.', state), 'neck.conv.weight': torch.ones(1)}


@pytest.mark.parametrize(
    'content',
    [
        lambda state: state,
        lambda state: dict(state_dict=under('module.', state)),
        lambda state: dict(state_dict=in_detector(state)),
        lambda state: under('module.', in_detector(state)),
        lambda state: under('net.', state),
        without_counters,
    ],
    ids=['bare', 'parallel', 'detector', 'parallel detector', 'net', 'old'],
)
def test_what_is_accepted_is_what_the_backbone_then_holds(
    content, cfg, saved, resnet18
):
    use_backbone_weights(cfg, saved(content(resnet18)))
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, resnet18[name]), name


def test_other_networks_of_mmdets_backbone_are_refused(cfg, saved, resnet18):
    path = saved(models.resnet34().state_dict())
    with pytest.raises(CheckpointMismatch) as error:
        use_backbone_weights(cfg, path)
    assert f'{path} does not fit the ResNet' in str(error.value)
    assert 'unknown to the model: layer1.2.conv1.weight' in str(error.value)
    with pytest.raises(CheckpointMismatch, match='missing in the checkpoint'):
        use_backbone_weights(cfg, saved(dict(model=resnet18)))
    path = saved(models.shufflenet_v2_x0_5().state_dict())
    with pytest.raises(CheckpointMismatch, match='looks like ShuffleNetV2 in'):
        use_backbone_weights(cfg, path)
    assert 'init_cfg' not in cfg.model.backbone


def own_config(**backbone) -> Config:
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, **backbone)
    preprocessor = dict(
        type='DetDataPreprocessor',
        bgr_to_rgb=True,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    )
    return Config(
        dict(model=dict(backbone=backbone, data_preprocessor=preprocessor))
    )


def fastestdets(prefix: str = '') -> dict:
    """A file of the authors' units for BGR of 0 to 1."""
    backbone = MODELS.build(own_config(style='authors').model.backbone)
    found = next(f for f in backbone.formats if f.name == 'fastestdet')
    return {
        prefix + found.to_theirs(key): value
        for key, value in backbone.state_dict().items()
    }


@pytest.mark.parametrize('prefix', ['module.', 'model.backbone.'])
def test_a_config_adapts_to_the_weights(saved, prefix):
    cfg = own_config()
    use_backbone_weights(cfg, saved(fastestdets(prefix)))
    assert cfg.model.backbone.style == 'authors'
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.std == [255.0] * 3
    MODELS.build(cfg.model.backbone).init_weights()


def test_a_wrong_file_is_refused_before_the_run(saved):
    cfg = own_config()
    path = saved(nn.Linear(1, 1).state_dict())
    with pytest.raises(CheckpointError, match='none of the formats'):
        use_backbone_weights(cfg, path)
    path = saved(models.shufflenet_v2_x1_0().state_dict())
    with pytest.raises(CheckpointMismatch, match='like shufflenet_v2_x1_0'):
        use_backbone_weights(cfg, path)
    # Neither names nor shapes tell whose order of channels it is.
    weights = {
        f'{i}.{key.rpartition(".")[2]}': value
        for i, (key, value) in enumerate(fastestdets().items())
    }
    with pytest.raises(CheckpointError, match='torchvision, authors'):
        use_backbone_weights(cfg, saved(weights))
    assert 'init_cfg' not in cfg.model.backbone


def test_a_run_goes_on_from_former_names(saved):
    model = nn.ModuleDict(
        dict(backbone=MODELS.build(own_config().model.backbone))
    )
    (former,) = (f for f in model['backbone'].formats if f.is_former)
    state = {
        f'backbone.{former.to_theirs(key)}': value + 1
        for key, value in model['backbone'].state_dict().items()
    }
    load_fitting(model, saved(dict(state_dict=state)))
    assert torch.equal(
        model['backbone'].conv1[0].weight,
        state['backbone.stem.conv1.conv.weight'],
    )


KNOWN = ('dog', 'cat', 'car')
OURS = ('bird', 'car', 'dog', 'tree')
LIGHT_HEAD = 'lighthead_shufflenetv2_x0_5'
RETINA = 'swap/retinanet_shufflenetv2_fpn_coco'
# Config, and layers whose rows belong to classes, with rows of each.
DETECTORS = {
    LIGHT_HEAD: {
        'roi_head.bbox_head.fc_cls.weight': 1,
        'roi_head.bbox_head.fc_cls.bias': 1,
        'roi_head.bbox_head.fc_reg.weight': 4,
        'roi_head.bbox_head.fc_reg.bias': 4,
    },
    'rfcn_shufflenetv2': {
        'neck.score_conv.weight': 49,
        'neck.score_conv.bias': 49,
    },
}


@pytest.fixture
def detector(root):
    def build(name: str, classes: tuple):
        cfg = Config.fromfile(root / 'configs' / f'{name}.py')
        cfg.model.backbone.init_cfg = None
        run_data.set_classes(cfg, classes)
        return cfg, MODELS.build(cfg.model)

    return build


@pytest.fixture
def carried_over(detector, saved):
    """Weights of KNOWN, and of OURS before and after they got those."""

    def load(name: str):
        source = detector(name, KNOWN)[1].state_dict()
        cfg, target = detector(name, OURS)
        before = {k: v.clone() for k, v in target.state_dict().items()}
        meta = dict(dataset_meta=dict(classes=KNOWN))
        path = saved(dict(state_dict=source, meta=meta))
        load_other_classes(target, cfg, path, OURS)
        return source, before, target.state_dict()

    return load


@pytest.mark.parametrize('name', DETECTORS)
def test_shared_classes_keep_their_weights_under_other_labels(
    name, carried_over
):
    theirs, before, after = carried_over(name)
    for key, value in after.items():
        rows = DETECTORS[name].get(key)
        if rows is None:
            assert torch.equal(value, theirs[key]), key
            continue
        for label, one in enumerate(OURS):
            mine = value[label * rows : (label + 1) * rows]
            other, at = before, label
            if one in KNOWN:
                other, at = theirs, KNOWN.index(one)
            expected = other[key][at * rows : (at + 1) * rows]
            assert torch.equal(mine, expected)
        rest = theirs[key][len(KNOWN) * rows :]
        assert torch.equal(value[len(OURS) * rows :], rest)


def test_one_stage_heads_have_the_classes_of_an_anchor_side_by_side(
    carried_over,
):
    theirs, _, ours = carried_over(RETINA)
    ours, theirs = (
        each['bbox_head.retina_cls.weight'].unflatten(0, (9, -1))
        for each in (ours, theirs)
    )
    for one in 'dog', 'car':
        mine = ours[:, OURS.index(one)]
        assert torch.equal(mine, theirs[:, KNOWN.index(one)])


def test_another_network_and_an_unnamed_one_are_refused(detector, saved):
    cfg, target = detector(LIGHT_HEAD, OURS)
    state = target.state_dict()
    path = saved(dict(state_dict=state))
    with pytest.raises(CheckpointMismatch, match='which classes it knows'):
        load_other_classes(target, cfg, path, OURS)
    del state['rpn_head.rpn_conv.weight']
    meta = dict(dataset_meta=dict(classes=OURS))
    path = saved(dict(state_dict=state, meta=meta))
    with pytest.raises(CheckpointMismatch, match=r'rpn_head\.rpn_conv\.weig'):
        load_other_classes(target, cfg, path, OURS)
