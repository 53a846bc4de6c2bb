"""A detector of other classes: what is carried over, and what is new."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_shufflenetv2.engine import run_data
from mmdet_shufflenetv2.engine.fine_tuning import (
    carry_over,
    class_layers,
    load_other_classes,
)
from mmdet_shufflenetv2.engine.runner import CheckpointMismatch

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ('dog', 'cat', 'car')
OURS = ('bird', 'car', 'dog', 'tree')
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
    'swap/retinanet_shufflenetv2_fpn_coco': {
        # 9 anchors at a place, each with a row for every class.
        'bbox_head.retina_cls.weight': None,
        'bbox_head.retina_cls.bias': None,
    },
}


def configured(name: str, classes) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.model.backbone.init_cfg = None
    run_data.set_classes(cfg, classes)
    return cfg


@pytest.mark.parametrize('name', DETECTORS)
def test_class_layers_are_found_whatever_the_detector(name):
    layers = class_layers(configured(name, OURS), len(OURS), len(KNOWN))
    assert layers.keys() == DETECTORS[name].keys()
    for key, rows in DETECTORS[name].items():
        if rows:
            assert layers[key][1] == rows


@pytest.mark.parametrize('name', list(DETECTORS)[:2])
def test_shared_classes_keep_their_weights_under_other_labels(
    name, tmp_path, caplog
):
    source = MODELS.build(configured(name, KNOWN).model)
    cfg = configured(name, OURS)
    target = MODELS.build(cfg.model)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    path = str(tmp_path / 'known.pth')
    meta = dict(dataset_meta=dict(classes=KNOWN))
    torch.save(dict(state_dict=source.state_dict(), meta=meta), path)
    load_other_classes(target, cfg, path, OURS)
    theirs = source.state_dict()
    for key, value in target.state_dict().items():
        rows = DETECTORS[name].get(key)
        if rows is None:
            assert torch.equal(value, theirs[key]), key
            continue
        for label, one in enumerate(OURS):
            mine = value[label * rows : (label + 1) * rows]
            if one in KNOWN:
                at = KNOWN.index(one) * rows
                assert torch.equal(mine, theirs[key][at : at + rows])
            else:
                start = label * rows
                assert torch.equal(mine, before[key][start : start + rows])
        rest = theirs[key][len(KNOWN) * rows :]
        assert torch.equal(value[len(OURS) * rows :], rest)


def test_one_stage_heads_have_the_classes_of_an_anchor_side_by_side(tmp_path):
    name = 'swap/retinanet_shufflenetv2_fpn_coco'
    source = MODELS.build(configured(name, KNOWN).model)
    cfg = configured(name, OURS)
    target = MODELS.build(cfg.model)
    path = str(tmp_path / 'known.pth')
    meta = dict(dataset_meta=dict(classes=KNOWN))
    torch.save(dict(state_dict=source.state_dict(), meta=meta), path)
    load_other_classes(target, cfg, path, OURS)
    ours, theirs = (
        model.bbox_head.retina_cls.weight.unflatten(0, (9, -1))
        for model in (target, source)
    )
    for one in 'dog', 'car':
        mine = ours[:, OURS.index(one)]
        assert torch.equal(mine, theirs[:, KNOWN.index(one)])


def test_equal_numbers_of_classes_are_told_apart_by_name():
    theirs = torch.tensor([1.0, 2.0, 9.0])
    ours = torch.zeros(3)
    found = carry_over(theirs, ours, ('a', 'b'), ('b', 'c'), rows=1)
    assert found.tolist() == [2.0, 0.0, 9.0]


def test_another_network_and_an_unnamed_one_are_refused(tmp_path):
    name = 'lighthead_shufflenetv2_x0_5'
    cfg = configured(name, OURS)
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
