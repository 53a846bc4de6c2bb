"""Every detection config builds, trains a step and predicts, scaled down."""

import pytest
import torch
from commands import ROOT
from mmdet.registry import HOOKS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub

from mmdet_shufflenetv2.engine.run_config import without_pretrained
from mmdet_shufflenetv2.measure.published import figures

LEAVES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
REFERENCE = 'configs/lighthead_shufflenetv2.py'
# The custom configs intentionally use another recipe.
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
# The others differ only in width or depth.
KINDS = [p for p in REGION_BASED if '_x' not in p or '_x1_0' in p]
# The values, besides the backbone, that may differ between Table 7's configs.
CHANNELS = {'model.neck.in_channels', 'model.rpn_head.in_channels'}
# test_pretrain.py tests configs that train classifiers.
DETECTORS = [path for path in LEAVES if '/pretrain' not in path]


@pytest.mark.parametrize('path', DETECTORS)
def test_trains_a_step_and_predicts(path):
    cfg = Config.fromfile(ROOT / path)
    without_pretrained(cfg)
    for part in cfg.model.get('train_cfg'), cfg.model.get('test_cfg'):
        for stage in {'rpn_proposal', 'rpn'} & {*(part or {})}:
            part[stage].max_per_img = 50
    for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', ())):
        assert issubclass(HOOKS.get(hook.type), Hook)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    # As in a training loop, which batch augmentations rely on.
    MessageHub.get_current_instance().update_info('iter', 0)
    # The second image has no objects.
    batch = demo_mm_inputs(2, (3, 64, 96), num_items=[2, 0], num_classes=2)
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()
    data = model.data_preprocessor(batch, training=True)
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert missing == []
    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    assert all(r.pred_instances.bboxes.isfinite().all() for r in results)


def flat(node: dict, prefix: str = '') -> dict:
    """A config's values by dotted name."""
    values = {}
    for key, value in node.items():
        if isinstance(value, dict):
            values |= flat(value, f'{prefix}{key}.')
        else:
            values[prefix + key] = value
    return values


@pytest.mark.parametrize('path', REGION_BASED)
def test_configs_of_table_7_differ_only_in_the_backbone(path):
    """Data, schedule, options and thin map are the same."""
    assert len(PAPER) == 5 * 4
    one, other = (
        flat(Config.fromfile(ROOT / each).to_dict())
        for each in (path, REFERENCE)
    )
    found = {k for k in one | other if one.get(k) != other.get(k)}
    if path in PAPER:
        found -= CHANNELS
        assert all(name.startswith('model.backbone.') for name in found)
    assert all(name.startswith('model.') for name in found)


@pytest.mark.parametrize('name', ['faster-rcnn', 'cascade-rcnn'])
def test_rois_are_mapped_to_levels_of_twice_the_stride(name):
    """mmdet's finest map has stride 4 and takes RoIs below 56 * 2 pixels."""
    path = ROOT / f'configs/swap/{name}_shufflenetv2_fpn_coco.py'
    extractor = Config.fromfile(path).model.roi_head.bbox_roi_extractor
    built = MODELS.build(extractor)
    assert built.finest_scale == 56 * extractor.featmap_strides[0] / 4
    side = torch.tensor([100.0, 230.0, 460.0])
    rois = torch.stack([0 * side, 0 * side, 0 * side, side, side], dim=1)
    assert built.map_roi_levels(rois, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize('path', KINDS)
def test_heads_assume_the_strides_of_their_maps(path):
    cfg = Config.fromfile(ROOT / path).model
    with torch.device('meta'):
        levels = MODELS.build(cfg.backbone)(torch.empty(1, 3, 64, 96))
        roi_map, rpn_map = MODELS.build(cfg.neck)(levels)
    (rpn_stride,) = cfg.rpn_head.anchor_generator.strides
    (roi_stride,) = cfg.roi_head.bbox_roi_extractor.featmap_strides
    assert rpn_map.shape[2:] == (64 // rpn_stride, 96 // rpn_stride)
    assert roi_map.shape[2:] == (64 // roi_stride, 96 // roi_stride)
