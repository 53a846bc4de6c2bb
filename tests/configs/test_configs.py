"""Every detector's config builds, trains a step and predicts, in small."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

ROOT = Path(__file__).resolve().parents[2]
LEAVES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Those that train classifiers are in test_pretrain.py.
DETECTORS = [path for path in LEAVES if '/pretrain' not in path]
LIGHT_HEAD = [path for path in LEAVES if path.startswith('configs/lighthead')]


def load(path: str) -> Config:
    """Read a config and shrink what costs time, not what it is made of."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope('mmdet')
    for stage in 'rpn_proposal', 'rpn':
        for part in cfg.model.get('train_cfg'), cfg.model.get('test_cfg'):
            if stage in (part or {}) and 'max_per_img' in part[stage]:
                part[stage].max_per_img = 50
    return cfg


def make_batch(height=96, width=128, num_images=2):
    """Images of noise; the first has two objects, the others have none."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index in range(num_images):
        inputs.append(
            torch.randint(
                0,
                256,
                (3, height, width),
                dtype=torch.uint8,
                generator=generator,
            )
        )
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        boxes = torch.tensor([[10.0, 10, 70, 60], [50, 30, 120, 90]])
        labels = torch.tensor([0, 1])
        if index:
            boxes, labels = boxes[:0], labels[:0]
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(
            bboxes=boxes[:0], labels=labels[:0]
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def total_loss(model, batch):
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    return total


@pytest.mark.parametrize('path', DETECTORS)
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    cfg = load(path)
    if isinstance(cfg.model.backbone.get('init_cfg'), dict):
        # Of a run that is not there.
        del cfg.model.backbone['init_cfg']
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    total_loss(model, make_batch()).backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert missing == []
    model.eval()
    with torch.no_grad():
        results = model.test_step(make_batch())
    for result in results:
        boxes = result.pred_instances.bboxes
        assert boxes.shape[1] == 4
        assert boxes.isfinite().all()


@pytest.mark.parametrize('path', LEAVES)
def test_leaf_is_short_and_says_what_was_measured(path):
    text = (ROOT / path).read_text()
    docstring = text.split('"""')[1]
    assert 'rained' in docstring or 'python tools/' in docstring
    body = text.split('"""', 2)[2]
    limit = 30 if '_custom' not in path and 'demo' not in path else 100
    assert len(body.strip().splitlines()) <= limit


@pytest.mark.parametrize('path', LIGHT_HEAD)
def test_light_head_configs_share_everything_but_the_backbone(path):
    """Changing the backbone changes nothing else (Table 7)."""
    if path.endswith('_custom.py'):
        pytest.skip('another recipe by intention')
    cfg, reference = load(path), load('configs/lighthead_shufflenetv2.py')
    for own in cfg, reference:
        own.model.pop('backbone')
        own.model.neck.pop('in_channels')
        own.model.rpn_head.pop('in_channels')
    assert cfg.to_dict() == reference.to_dict()


@pytest.mark.parametrize(
    'width, stage3, conv5',
    [(0.5, 96, 1024), (1.0, 232, 1024), (1.5, 352, 1024), (2.0, 488, 2048)],
)
@pytest.mark.parametrize('family', ['shufflenetv2', 'shufflenetv2star'])
def test_width_of_the_name_is_the_width_of_the_model(
    family, width, stage3, conv5
):
    """Channels of Table 5."""
    name = f'{family}_x{width}'.replace('.', '_')
    path = f'configs/lighthead_{name}.py'
    if path not in LEAVES:
        path = 'configs/lighthead_shufflenetv2.py'
    model = load(path).model
    assert model.backbone.widen_factor == width
    assert tuple(model.neck.in_channels) == (stage3, conv5)
    receptive_field = model.backbone.get('receptive_field', 'standard')
    assert (receptive_field == 'enlarged') == ('star' in family)
