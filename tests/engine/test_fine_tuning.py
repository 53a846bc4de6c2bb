"""A detector of other classes: what is carried over, and what is new."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_shufflenetv2.engine import run_data
from mmdet_shufflenetv2.engine.runner import CheckpointMismatch
from mmdet_shufflenetv2.engine.weights import load_other_classes

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ('dog', 'cat', 'car')
OURS = ('bird', 'car', 'dog', 'tree')
RETINA = 'swap/retinanet_shufflenetv2_fpn_coco'
# Config, and layers whose rows belong to classes, with rows of each.
DETECTORS = {
    'lighthead_shufflenetv2_x0_5': {
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


def configured(name: str, classes) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.model.backbone.init_cfg = None
    run_data.set_classes(cfg, classes)
    return cfg


def carried_over(name: str, tmp_path):
    """A detector of KNOWN, and one of OURS before and after it got it."""
    source = MODELS.build(configured(name, KNOWN).model)
    cfg = configured(name, OURS)
    target = MODELS.build(cfg.model)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    path = str(tmp_path / 'known.pth')
    meta = dict(dataset_meta=dict(classes=KNOWN))
    torch.save(dict(state_dict=source.state_dict(), meta=meta), path)
    load_other_classes(target, cfg, path, OURS)
    return source.state_dict(), before, target.state_dict()


@pytest.mark.parametrize('name', DETECTORS)
def test_shared_classes_keep_their_weights_under_other_labels(name, tmp_path):
    theirs, before, after = carried_over(name, tmp_path)
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


def test_one_stage_heads_have_the_classes_of_an_anchor_side_by_side(tmp_path):
    theirs, _, ours = carried_over(RETINA, tmp_path)
    ours, theirs = (
        each['bbox_head.retina_cls.weight'].unflatten(0, (9, -1))
        for each in (ours, theirs)
    )
    for one in 'dog', 'car':
        mine = ours[:, OURS.index(one)]
        assert torch.equal(mine, theirs[:, KNOWN.index(one)])


def test_another_network_and_an_unnamed_one_are_refused(tmp_path):
    cfg = configured('lighthead_shufflenetv2_x0_5', OURS)
    target = MODELS.build(cfg.model)
    path = str(tmp_path / 'a.pth')
    state = target.state_dict()
    torch.save(dict(state_dict=state), path)
    with pytest.raises(CheckpointMismatch, match='which classes it knows'):
        load_other_classes(target, cfg, path, OURS)
    del state['rpn_head.rpn_conv.weight']
    meta = dict(dataset_meta=dict(classes=OURS))
    torch.save(dict(state_dict=state, meta=meta), path)
    with pytest.raises(CheckpointMismatch, match=r'rpn_head\.rpn_conv\.weig'):
        load_other_classes(target, cfg, path, OURS)
