"""Every detector's config builds, trains a step and predicts, in small."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet_shufflenetv2.engine.run_config import without_pretrained
from mmdet_shufflenetv2.paper.published import figures

ROOT = Path(__file__).resolve().parents[2]
LEAVES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
REFERENCE = 'configs/lighthead_shufflenetv2.py'
# The custom config is another recipe by intention.
REGION_BASED = [
    path
    for path in LEAVES
    if path.startswith(('configs/lighthead', 'configs/rfcn'))
    and '_custom' not in path
]
PAPER = {
    f'configs/{figure.key.row}.py': figure
    for figure in figures()
    if figure.key.table == 'Table 7' and figure.quantity == 'mmAP'
}
SWAPS = [path for path in LEAVES if path.startswith('configs/swap')]
# What may differ between backbones of Table 7, besides the backbone.
CHANNELS = {'model.neck.in_channels', 'model.rpn_head.in_channels'}
# Those that train classifiers are in test_pretrain.py.
DETECTORS = [path for path in LEAVES if '/pretrain' not in path]


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
    # As a runner does; augmentations of whole batches count on it.
    MessageHub.get_current_instance().update_info('iter', 0)
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    return total


@pytest.mark.parametrize('path', DETECTORS)
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    cfg = load(path)
    without_pretrained(cfg)
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


def flat(node: dict, prefix: str = '') -> dict:
    """A config's values under their dotted names."""
    values = {}
    for key, value in node.items():
        if isinstance(value, dict):
            values |= flat(value, f'{prefix}{key}.')
        else:
            values[prefix + key] = value
    return values


def differences(path: str, reference: str) -> set[str]:
    """Dotted names of what two resolved configs do not share."""
    one, other = (flat(load(each).to_dict()) for each in (path, reference))
    return {k for k in one | other if one.get(k) != other.get(k)}


def test_table_7_is_complete():
    assert len(PAPER) == 5 * 4
    assert set(PAPER) <= set(LEAVES)


@pytest.mark.parametrize('path', PAPER)
def test_changing_the_backbone_changes_nothing_else(path):
    """Switches, data, schedule and thin map are one for all (Table 7)."""
    found = differences(path, REFERENCE)
    others = {k for k in found if not k.startswith('model.backbone.')}
    assert others <= CHANNELS


@pytest.mark.parametrize('path', REGION_BASED)
def test_data_and_schedule_are_those_of_table_7(path):
    found = differences(path, REFERENCE)
    assert all(name.startswith('model.') for name in found)


def test_resnets_differ_in_depth_and_weights_alone():
    found = differences(
        'configs/lighthead_resnet50.py', 'configs/lighthead_resnet101.py'
    )
    assert found == {
        'model.backbone.depth',
        'model.backbone.init_cfg.checkpoint',
    }


@pytest.mark.parametrize('path', PAPER)
def test_config_states_its_figure_of_the_paper(path):
    column = PAPER[path].key.column.replace('M', ' MFLOPs')
    stated = f'Paper (Table 7, {column}): {PAPER[path].value} mmAP.'
    assert stated in (ROOT / path).read_text()


@pytest.mark.parametrize('path', SWAPS)
def test_rois_are_mapped_to_levels_of_twice_the_stride(path):
    """mmdet's finest map has stride 4 and takes RoIs below 56 * 2 pixels."""
    cfg = Config.fromfile(ROOT / path).model
    extractor = (cfg.get('roi_head') or {}).get('bbox_roi_extractor')
    if extractor is None:
        pytest.skip('has no RoIs')
    built = MODELS.build(extractor)
    assert built.finest_scale == 56 * extractor.featmap_strides[0] / 4
    side = torch.tensor([100.0, 230.0, 460.0])
    rois = torch.stack([0 * side, 0 * side, 0 * side, side, side], dim=1)
    assert built.map_roi_levels(rois, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize('path', REGION_BASED)
def test_heads_assume_the_channels_and_strides_of_their_maps(path):
    cfg = load(path).model
    with torch.device('meta'):
        levels = MODELS.build(cfg.backbone)(torch.empty(1, 3, 64, 96))
        roi_map, rpn_map = MODELS.build(cfg.neck)(levels)
    assert tuple(cfg.neck.in_channels) == tuple(x.shape[1] for x in levels)
    assert cfg.rpn_head.in_channels == rpn_map.shape[1]
    (rpn_stride,) = cfg.rpn_head.anchor_generator.strides
    (roi_stride,) = cfg.roi_head.bbox_roi_extractor.featmap_strides
    assert rpn_map.shape[2:] == (64 // rpn_stride, 96 // rpn_stride)
    assert roi_map.shape[2:] == (64 // roi_stride, 96 // roi_stride)
    bins = cfg.roi_head.bbox_roi_extractor
    assert roi_map.shape[1] == bins.out_channels * 7 * 7
