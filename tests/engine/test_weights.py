import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.engine.runner import CheckpointMismatch, load_fitting
from mmdet_shufflenetv2.engine.weights import use_backbone_weights


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
        without_counters,
    ],
    ids=['bare', 'parallel', 'detector', 'parallel detector', 'old'],
)
def test_what_is_accepted_is_what_the_backbone_then_holds(
    content, cfg, saved, resnet18
):
    use_backbone_weights(cfg, saved(content(resnet18)))
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, resnet18[name]), name


def test_deeper_network_of_the_same_shapes_is_refused(cfg, saved):
    path = saved(models.resnet34().state_dict())
    with pytest.raises(CheckpointMismatch) as error:
        use_backbone_weights(cfg, path)
    assert f'{path} does not fit the ResNet' in str(error.value)
    assert 'unknown to the model: layer1.2.conv1.weight' in str(error.value)
    assert 'init_cfg' not in cfg.model.backbone


def test_what_mmengine_would_find_nothing_in_is_refused(cfg, saved, resnet18):
    with pytest.raises(CheckpointMismatch, match='missing in the checkpoint'):
        use_backbone_weights(cfg, saved(dict(model=resnet18)))
    with pytest.raises(CheckpointError, match='must be a dict'):
        use_backbone_weights(cfg, saved(list(resnet18)))


def test_other_family_is_named(cfg, saved):
    path = saved(models.shufflenet_v2_x0_5().state_dict())
    with pytest.raises(
        CheckpointMismatch, match='looks like ShuffleNetV2 in the format of'
    ):
        use_backbone_weights(cfg, path)


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


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.backbone.'])
def test_a_config_adapts_to_the_weights(saved, prefix):
    cfg = own_config()
    use_backbone_weights(cfg, saved(fastestdets(prefix)))
    assert cfg.model.backbone.style == 'authors'
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.std == [255.0] * 3
    MODELS.build(cfg.model.backbone).init_weights()


def test_a_config_says_the_style_where_weights_do_not(saved):
    weights = {
        f'{i}.{key.rpartition(".")[2]}': value
        for i, (key, value) in enumerate(fastestdets().items())
    }
    path = saved(weights)
    with pytest.raises(CheckpointError, match='torchvision, authors'):
        use_backbone_weights(own_config(), path)


@pytest.mark.parametrize('prefix', ['model.backbone.', 'net.'])
def test_weights_of_a_larger_model_are_found(cfg, saved, resnet18, prefix):
    use_backbone_weights(cfg, saved(under(prefix, resnet18)))
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    assert torch.equal(backbone.conv1.weight, resnet18['conv1.weight'])


def test_a_wrong_file_is_refused_before_the_run(saved):
    cfg = own_config()
    path = saved(nn.Linear(1, 1).state_dict())
    with pytest.raises(CheckpointError, match='none of the formats'):
        use_backbone_weights(cfg, path)
    with torch.device('meta'):
        wide = models.shufflenet_v2_x1_0().state_dict()
    path = saved({k: torch.zeros(v.shape) for k, v in wide.items()})
    with pytest.raises(CheckpointMismatch, match='like shufflenet_v2_x1_0'):
        use_backbone_weights(cfg, path)
    assert 'init_cfg' not in cfg.model.backbone


def test_a_run_goes_on_from_former_names(tmp_path):
    model = nn.ModuleDict(
        dict(backbone=MODELS.build(own_config().model.backbone))
    )
    (former,) = (f for f in model['backbone'].formats if f.is_former)
    path = tmp_path / 'epoch_1.pth'
    state = {
        f'backbone.{former.to_theirs(key)}': value + 1
        for key, value in model['backbone'].state_dict().items()
    }
    torch.save(dict(state_dict=state), path)
    load_fitting(model, str(path))
    assert torch.equal(
        model['backbone'].conv1[0].weight,
        state['backbone.stem.conv1.conv.weight'],
    )
