"""A run starts from a backbone's file or a detector of other classes."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB
from mmdet_shufflenetv2.engine import run_data
from mmdet_shufflenetv2.engine.weights import (
    load_fitting,
    load_other_classes,
    use_backbone_weights,
)


@pytest.fixture(scope='module')
def resnet18() -> dict:
    """torchvision's, with its classifier."""
    torch.manual_seed(0)
    return models.resnet18().state_dict()


def resnet_config() -> Config:
    return Config(dict(model=dict(backbone=dict(type='ResNet', depth=18))))


def own_config(**backbone) -> Config:
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, **backbone)
    preprocessor = dict(type='DetDataPreprocessor')
    preprocessor |= NORMALISED_RGB.preprocessor_options(preprocessor)
    return Config(
        dict(model=dict(backbone=backbone, data_preprocessor=preprocessor))
    )


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


def in_detector(state: dict) -> dict:
    return {**under('backbone.', state), 'neck.conv.weight': torch.ones(1)}


@pytest.mark.parametrize(
    'content',
    [
        lambda state: state,
        lambda state: under('module.', in_detector(state)),
        lambda state: under('net.', state),
        lambda state: {k: v for k, v in state.items() if '_tracked' not in k},
    ],
    ids=['bare', 'parallel detector', 'net', 'old'],
)
def test_what_is_accepted_is_what_the_backbone_then_holds(
    content, written, resnet18
):
    cfg = resnet_config()
    use_backbone_weights(cfg, written(content(resnet18)))
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, resnet18[name]), name


def fastestdets(prefix: str) -> dict:
    """A file of the authors' units for BGR of 0 to 1."""
    backbone = MODELS.build(own_config(style='authors').model.backbone)
    found = next(f for f in backbone.formats if f.name == 'fastestdet')
    return {
        prefix + found.to_theirs(key): value
        for key, value in backbone.state_dict().items()
    }


def test_a_config_adapts_to_the_weights(written):
    cfg = own_config()
    use_backbone_weights(cfg, written(fastestdets('model.backbone.')))
    assert cfg.model.backbone.style == 'authors'
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.std == [255.0] * 3
    MODELS.build(cfg.model.backbone).init_weights()


def test_a_network_that_has_no_styles_starts_from_a_file(written):
    backbone = dict(type='MobileNetV1', widen_factor=0.25)
    cfg = Config(dict(model=dict(backbone=backbone)))
    path = written(MODELS.build(backbone).state_dict())
    use_backbone_weights(cfg, path)
    assert cfg.model.backbone.init_cfg.checkpoint == path


@pytest.mark.parametrize(
    'make, message',
    [
        (models.resnet34, r'to the model: layer1\.2\.conv1\.weight'),
        (models.shufflenet_v2_x0_5, 'looks like ShuffleNetV2'),
    ],
)
def test_a_wrong_file_is_refused_before_the_run(written, make, message):
    cfg = resnet_config()
    with pytest.raises(CheckpointError, match=message):
        use_backbone_weights(cfg, written(make().state_dict()))
    assert 'init_cfg' not in cfg.model.backbone


def test_a_run_goes_on_from_former_names(saved):
    backbone = MODELS.build(own_config().model.backbone)
    (former,) = (f for f in backbone.formats if f.is_former)
    state = {
        f'backbone.{former.to_theirs(key)}': value + 1
        for key, value in backbone.state_dict().items()
    }
    load_fitting(nn.ModuleDict(dict(backbone=backbone)), saved(state))
    first = state['backbone.stem.conv1.conv.weight']
    assert torch.equal(backbone.conv1[0].weight, first)


KNOWN = ('dog', 'cat', 'car')
OURS = ('bird', 'car', 'dog', 'tree')
LIGHT_HEAD = 'lighthead_shufflenetv2_x0_5'
# Configs and their layers with rows of classes: anchors, rows of a class.
DETECTORS = {
    LIGHT_HEAD: {
        'roi_head.bbox_head.fc_cls': (1, 1),
        'roi_head.bbox_head.fc_reg': (1, 4),
    },
    'rfcn_shufflenetv2': {'neck.score_conv': (1, 49)},
    'swap/retinanet_shufflenetv2_fpn_coco': {'bbox_head.retina_cls': (9, 1)},
}


@pytest.fixture
def detector(root):
    def build(name: str, classes: tuple):
        cfg = Config.fromfile(root / 'configs' / f'{name}.py')
        cfg.model.backbone.init_cfg = None
        run_data.set_classes(cfg, classes)
        return cfg, MODELS.build(cfg.model)

    return build


@pytest.mark.parametrize('name', DETECTORS)
def test_shared_classes_keep_their_weights_under_other_labels(
    name, detector, saved
):
    theirs = detector(name, KNOWN)[1].state_dict()
    cfg, target = detector(name, OURS)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    path = saved(theirs, dataset_meta=dict(classes=KNOWN))
    load_other_classes(target, cfg, path, OURS)
    for key, value in target.state_dict().items():
        layout = DETECTORS[name].get(key.rpartition('.')[0])
        if layout is None:
            assert torch.equal(value, theirs[key]), key
            continue
        ours, new, old = (
            each.unflatten(0, (layout[0], -1, layout[1]))
            for each in (value, before[key], theirs[key])
        )
        for label, one in enumerate(OURS):
            wanted = new[:, label]
            if one in KNOWN:
                wanted = old[:, KNOWN.index(one)]
            assert torch.equal(ours[:, label], wanted), (key, one)
        # The background.
        assert torch.equal(ours[:, len(OURS) :], old[:, len(KNOWN) :])


def test_another_network_and_an_unnamed_one_are_refused(detector, saved):
    cfg, target = detector(LIGHT_HEAD, OURS)
    state = target.state_dict()
    with pytest.raises(CheckpointError, match='a checkpoint with class names'):
        load_other_classes(target, cfg, saved(state), OURS)
    del state['rpn_head.rpn_conv.weight']
    path = saved(state, dataset_meta=dict(classes=OURS))
    with pytest.raises(CheckpointError, match=r'rpn_head\.rpn_conv\.weig'):
        load_other_classes(target, cfg, path, OURS)
