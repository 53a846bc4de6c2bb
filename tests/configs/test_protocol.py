"""The authors' protocol, point by point, in the configs as they resolve.

Sources: config.py, network_desp.py and tools/train.py of
https://github.com/zengarden/light_head_rcnn (see the base config).
"""

import re
from functools import reduce
from operator import getitem

import pytest
import torch
from commands import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmdet_shufflenetv2.backbones.pretrained import public_weights

FOLLOWERS = sorted(
    path
    for pattern in ('lighthead_*.py', 'rfcn_*.py')
    for path in (ROOT / 'configs').glob(pattern)
    if '_custom' not in path.name
)
# One of each kind; test_configs.py compares the others with the main config.
KINDS = (
    'lighthead_shufflenetv2',
    'lighthead_shufflenetv1_x0_5',
    'lighthead_mobilenetv2_x0_6',
    'lighthead_xception_x0_5',
    'lighthead_resnet50',
    'rfcn_shufflenetv2',
    'rfcn_resnet101',
)


# As in the config; the batch is that of one of 8 GPUs.
POINTS = {
    'train_dataloader.batch_size': 2,
    'auto_scale_lr': dict(enable=True, base_batch_size=16),
    'optim_wrapper.optimizer': dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4
    ),
    'model.rpn_head.anchor_generator.scales': [2, 4, 8, 16, 32],
    'model.rpn_head.anchor_generator.ratios': [0.5, 1.0, 2.0],
    'model.rpn_head.loss_bbox': dict(
        type='SmoothL1Loss', beta=1 / 3**2, loss_weight=1.0
    ),
    'model.roi_head.bbox_head.loss_bbox': dict(
        type='SmoothL1Loss', beta=1.0, loss_weight=2.0
    ),
    'model.roi_head.bbox_head.ohem_num': 256,
    'model.train_cfg.rpn_proposal.nms_pre': 12000,
    'model.train_cfg.rpn_proposal.max_per_img': 2000,
    'model.train_cfg.rpn_proposal.nms.iou_threshold': 0.7,
    'model.train_cfg.rcnn.sampler.add_gt_as_proposals': True,
    'model.train_cfg.rcnn.sampler.pos_fraction': 1.0,
    'model.train_cfg.rcnn.sampler.neg_pos_ub': -1,
    'model.test_cfg.rpn.nms_pre': 6000,
    'model.test_cfg.rpn.max_per_img': 1000,
    'model.test_cfg.rpn.nms.iou_threshold': 0.7,
    'model.test_cfg.rcnn.score_thr': 0,
    'model.test_cfg.rcnn.nms.iou_threshold': 0.5,
    'model.test_cfg.rcnn.max_per_img': 100,
}


@pytest.fixture(scope='module', params=KINDS)
def cfg(request) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{request.param}.py')


def test_batch_norms_stem_and_first_stage_are_frozen(cfg):
    backbone = MODELS.build(dict(cfg.model.backbone, init_cfg=None))
    backbone.train()
    trained = {
        name.partition('.')[0]
        for name, p in backbone.named_parameters()
        if p.requires_grad
    }
    stages = getattr(backbone, 'stage_names', ['layer1', 'layer2'])
    assert stages[1] in trained
    assert not trained & {'stem', 'conv1', stages[0]}
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.training
            assert not any(p.requires_grad for p in module.parameters())


def test_biases_do_not_decay_and_the_thin_map_learns_faster(cfg):
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(g['params'][0]): g for g in wrapper.param_groups}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = groups[id(parameter)]
        is_bias = name.endswith('.bias')
        assert group['weight_decay'] == (0 if is_bias else 1e-4), name
        new = name.startswith(('neck.thin_conv', 'neck.reduce'))
        assert group['lr'] == pytest.approx(0.03 if new else 0.01), name


def test_values_match_the_authors(cfg):
    for name, expected in POINTS.items():
        assert reduce(getitem, name.split('.'), cfg) == expected, name
    # OHEM chooses from all RoIs and the ground truth.
    assert cfg.model.train_cfg.rcnn.sampler.num > 2000 + 100
    # 30 epochs of 80,000 images, rounded to epochs of train2017.
    images = cfg.train_cfg.max_epochs * 118_287
    assert images == pytest.approx(30 * 80_000, rel=0.02)
    warm_up, drops = cfg.param_scheduler
    assert warm_up.scheduler == dict(type='LinearLR', start_factor=1 / 3)
    assert (warm_up.share[0], warm_up.longest) == (0, 500)
    assert drops.scheduler == dict(
        type='MultiStepLR', milestones=[19 / 30, 25 / 30], gamma=0.1
    )
    for loader in cfg.train_dataloader, cfg.test_dataloader:
        (resize,) = (t for t in loader.dataset.pipeline if t.type == 'Resize')
        assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)


def test_bins_are_the_largest_of_2x2_samples(cfg):
    layer = cfg.model.roi_head.bbox_roi_extractor.roi_layer
    if cfg.model.type == 'RFCN':
        # R-FCN averages instead.
        assert layer.type == 'PSRoIPool'
    else:
        assert layer.type == 'PSRoIAlign'
        how = layer.mode, layer.aligned, layer.sampling_ratio
        assert how == ('max', False, 2)


@pytest.mark.parametrize('path', FOLLOWERS, ids=lambda path: path.stem)
def test_starts_from_public_weights_or_says_that_there_are_none(path):
    backbone = Config.fromfile(path).model.backbone
    weights = public_weights(backbone)
    assert (backbone.get('init_cfg') or {}).get('checkpoint') == weights
    if weights is None:
        text = path.read_text()
        base = re.search(r"^_base_ = '(.*)'", text, re.M)[1]
        text += (path.parent / base).read_text()
        assert 'no public weights: --backbone-weights or --fr' in text
