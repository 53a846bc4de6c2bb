"""Everyday options, each with everything that depends on it."""

import argparse
from types import SimpleNamespace

import cv2
import mmengine.device.utils as device
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import Compose

from mmdet_shufflenetv2.cli import train
from mmdet_shufflenetv2.engine import evaluation, run_config, settings
from mmdet_shufflenetv2.engine.run_config import pretrained_of
from mmdet_shufflenetv2.errors import UserError

CUSTOM = 'configs/lighthead_shufflenetv2_custom.py'
MAIN = 'configs/lighthead_shufflenetv2.py'
CASCADE = 'configs/swap/cascade-rcnn_shufflenetv2_fpn_coco.py'
RTMDET = 'configs/swap/rtmdet-tiny_shufflenetv2_coco.py'
WITHOUT_PUBLIC = 'configs/lighthead_xception_x1_0.py'


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """What would be downloaded."""
    found = []
    monkeypatch.setattr(settings, 'fetch_weights', found.append)
    return found


@pytest.fixture
def configured(load):
    def apply(path, *arguments, options=None):
        cfg = load(path, options)
        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        args = parser.parse_args([path, *arguments])
        settings.apply_settings(cfg, args)
        return cfg

    return apply


def test_epochs_bring_validations_and_nothing_asked_for_nothing(
    load, configured
):
    assert configured(CUSTOM).to_dict() == load(CUSTOM).to_dict()
    cfg = configured(CUSTOM, '--epochs', '60')
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (60, 10)


@pytest.mark.parametrize(
    'path, arguments, rate',
    [
        (MAIN, ['--batch-size', '2'], 0.01 * 2 / 16),
        # Adam's by the square root.
        (CUSTOM, ['--batch-size', '16'], 3e-3 * 2),
        (CUSTOM, ['--batch-size', '64', '--lr', '0.1'], 0.1),
    ],
)
def test_batch_size_brings_the_learning_rate(
    configured, path, arguments, rate
):
    cfg = configured(path, *arguments)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate)
    # A run from the config that this one leaves does not scale again.
    batch = cfg.train_dataloader.batch_size
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=batch)


@pytest.mark.parametrize(
    'path, options, channels, weights',
    [
        (CUSTOM, ['--width', '0.5'], (96, 192), 'v2_x0_5'),
        (CASCADE, ['--width', '0.5'], (48, 96, 192), 'v2_x0_5'),
        # V2* starts from V2's.
        (CUSTOM, ['--star'], (232, 464), 'v2_x1_0'),
    ],
)
def test_width_and_star_bring_neck_rpn_and_weights(
    configured, fetched, path, options, channels, weights
):
    cfg = configured(path, *options)
    assert cfg.model.neck.in_channels == channels
    if path == CUSTOM:
        assert cfg.model.rpn_head.in_channels == channels[0]
    assert fetched == [f'torchvision://shufflenet_{weights}.imagenet1k_v1']
    assert pretrained_of(cfg.model.backbone).checkpoint == fetched[0]
    enlarged = cfg.model.backbone.get('receptive_field') == 'enlarged'
    assert enlarged == ('--star' in options)


@pytest.mark.parametrize(
    'path, arguments, message',
    [
        (RTMDET, ['--width', '0.5'], '--width: expected a neck of'),
        (WITHOUT_PUBLIC, ['--star'], "--star.*'receptive_field'"),
        (WITHOUT_PUBLIC, [], '--backbone-weights FILE'),
        (RTMDET, ['--image-size', '320x256'], 'sizes of its own'),
    ],
)
def test_what_cannot_be_had_is_refused(configured, path, arguments, message):
    with pytest.raises(UserError, match=message):
        configured(path, *arguments)


@pytest.mark.parametrize('path', [MAIN, WITHOUT_PUBLIC, CUSTOM])
def test_from_scratch_trains_all_there_is(configured, fetched, path):
    # A run that goes on needs no public weights either.
    configured(path, options={'resume': True})
    cfg = configured(path, '--from-scratch')
    assert fetched == []
    assert pretrained_of(cfg.model.backbone) is None
    backbone = MODELS.build(cfg.model.backbone)
    backbone.train()
    assert all(p.requires_grad for p in backbone.parameters())
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and path != CUSTOM:
            assert module.training
    # How it is initialised without weights stays.
    assert path != CUSTOM or len(cfg.model.backbone.init_cfg) == 2


def test_ema_and_patience_are_mmengines_hooks_once(configured):
    def averaging(path, *options):
        hooks = configured(path, *options).custom_hooks
        return [hook.type for hook in hooks].count('EMAHook')

    assert averaging(CUSTOM) == 1
    assert averaging(CUSTOM, '--no-ema') == 0
    assert averaging(RTMDET, '--ema') == 1
    stopping = configured(CUSTOM, '--patience', '3').custom_hooks[-1]
    assert (stopping.monitor, stopping.patience) == ('coco/bbox_mAP', 3)


def test_synchronised_batch_norms_train(configured, monkeypatch):
    monkeypatch.setattr(device, 'DEVICE', 'cuda')
    cfg = configured(MAIN, '--sync-bn', '--batch-size', '16')
    assert cfg.sync_bn == 'torch'
    assert cfg.model.backbone.norm_cfg.requires_grad
    assert not cfg.model.backbone.get('norm_eval')
    # A GPU that the run does not use is none.
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    settings.choose_device('cpu')
    with pytest.raises(UserError, match='need a GPU, but this run uses cpu'):
        configured(MAIN, '--amp')


def table(images: tuple[int, int], box: float) -> SimpleNamespace:
    """As much of one as a choice of size looks at: equal images and boxes."""

    def box_sizes(scale=images):
        factor = min(max(scale) / max(images), min(scale) / min(images))
        return np.full(10, box * factor)

    return SimpleNamespace(
        boxes=[0] * 10,
        image_sizes=lambda: np.array([images] * 3, dtype=float),
        box_sizes=box_sizes,
    )


@pytest.mark.parametrize(
    'images, box, arguments, size, warned',
    [
        # Large boxes: the config's size, in the images' shape.
        ((1000, 2000), 400, [], (480, 240), False),
        # Smaller ones need larger images, within limits.
        ((1920, 1080), 40, [], (768, 432), False),
        ((4000, 3000), 20, [], (960, 720), True),
        ((4000, 3000), 20, ['--image-size', '320x256'], (320, 256), True),
    ],
)
def test_image_size_follows_the_data_unless_it_is_given(
    configured, monkeypatch, images, box, arguments, size, warned
):
    said = []
    monkeypatch.setattr(
        settings, 'print_log', lambda text, *_, **__: said.append(text)
    )
    cfg = configured(CUSTOM, *arguments)
    settings.adapt_image_size(cfg, [table(images, box)])
    for split in run_config.SPLITS:
        (step,) = run_config.resizing(cfg, split)
        assert step.scale == size
    assert ('of the boxes are smaller than 8' in ''.join(said)) == warned


def test_multi_scale_is_the_authors_around_their_size(configured):
    cfg = configured(MAIN, '--multi-scale')
    settings.adapt_image_size(cfg, [table((4000, 3000), 20)])
    step = cfg.train_dataloader.dataset.pipeline[2]
    shorts = [min(scale) for scale in step.scales]
    assert shorts == [600, 700, 800, 900, 1000]


def test_vertical_flip_is_in_every_pipeline(configured):
    """Where no image was flipped too, and in RTMDet's second stage."""
    plain = configured(CUSTOM, '--vertical-flip', '--augment', 'none')
    staged = configured(RTMDET, '--vertical-flip')
    (second,) = (
        hook.switch_pipeline
        for hook in staged.custom_hooks
        if hook.type == 'PipelineSwitchHook'
    )
    first, only = (
        cfg.train_dataloader.dataset.pipeline for cfg in (staged, plain)
    )
    for pipeline in first, second, only:
        (flip,) = (step for step in pipeline if step.type == 'RandomFlip')
        assert flip.prob == [1 / 3, 1 / 3]
        assert flip.direction == ['horizontal', 'vertical']


@pytest.mark.parametrize('nms', ['nms', 'soft_voting'])
def test_time_augmentation_flips_as_training_did(configured, tmp_path, nms):
    options = '--from-scratch', '--image-size', '96x96', '--vertical-flip'
    cfg = configured(CUSTOM, *options)
    cfg.model.test_cfg.rcnn.nms.type = nms
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[:] = [s for s in pipeline if s.type != 'LoadAnnotations']
    evaluation.use_tta(cfg)
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, np.random.randint(0, 255, (60, 90, 3), np.uint8))
    steps = Compose(cfg.test_dataloader.dataset.pipeline)
    sample = steps(dict(img_path=path, img_id=1))
    plain, *flipped = sample['inputs']
    for dims, image in zip([(-1,), (-2,), (-1, -2)], flipped, strict=True):
        assert torch.equal(plain.flip(dims), image)
    batch = {key: [[each] for each in value] for key, value in sample.items()}
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        (result,) = model.test_step(batch)
    assert len(result.pred_instances) <= 100
