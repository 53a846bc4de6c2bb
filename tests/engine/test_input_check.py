"""Weights that expect other images than they get are named before training."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2

# isort: split
from mmdet.models import DetDataPreprocessor

from mmdet_shufflenetv2.compat.input_format import (
    NORMALISED_RGB,
    RAW_BGR,
    SCALED_BGR,
)
from mmdet_shufflenetv2.engine.input_check import InputCheckHook


class Photographs(list):
    """BGR of 0 to 255, more red than blue."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            image = torch.rand(3, 64, 64, generator=generator) * 120
            image += torch.tensor([10.0, 60, 130])[:, None, None]
            self.append(dict(inputs=image.to(torch.uint8)))


def trained_on(expected) -> ShuffleNetV2:
    """A backbone whose first norm has seen the photographs so."""
    torch.manual_seed(0)
    backbone = ShuffleNetV2(0.5)
    options = expected.preprocessor_options(dict(type='DetDataPreprocessor'))
    preprocessor = DetDataPreprocessor(**options)
    inputs = [each['inputs'] for each in Photographs()]
    batch = preprocessor(dict(inputs=inputs), training=True)['inputs']
    norm = next(m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))
    norm.momentum = None
    backbone.train()
    backbone(batch)
    return backbone


def check(expected, given, caplog, **init_cfg) -> str:
    options = given.preprocessor_options(dict(type='DetDataPreprocessor'))
    model = nn.Module()
    model.backbone = trained_on(expected)
    model.data_preprocessor = DetDataPreprocessor(**options)
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(init_cfg=init_cfg or None),
                data_preprocessor=dict(type='DetDataPreprocessor'),
            )
        )
    )
    runner = SimpleNamespace(
        model=model,
        cfg=cfg,
        iter=0,
        logger=logging.getLogger('input_check'),
        train_dataloader=SimpleNamespace(dataset=Photographs()),
    )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        InputCheckHook().before_train(runner)
    return caplog.text


def test_another_scale_is_a_warning_that_names_what_fits(caplog):
    start = dict(type='Pretrained', checkpoint='a.pth')
    text = check(SCALED_BGR, NORMALISED_RGB, caplog, **start)
    assert 'WARNING' in text
    assert 'a.pth: images as RGB' in text
    assert 'model.data_preprocessor.bgr_to_rgb="False"' in text
    text = check(RAW_BGR, SCALED_BGR, caplog, **start)
    assert 'model.data_preprocessor.std="[1.0, 1.0, 1.0]"' in text


def test_right_images_are_told_as_such(caplog):
    start = dict(type='Pretrained', checkpoint='a.pth')
    text = check(NORMALISED_RGB, NORMALISED_RGB, caplog, **start)
    assert 'they fit the weights' in text
    assert 'WARNING' not in text


@pytest.mark.parametrize('init_cfg', [{}, dict(type='Kaiming', layer='x')])
def test_nothing_is_said_of_random_weights(init_cfg, caplog):
    assert not check(SCALED_BGR, NORMALISED_RGB, caplog, **init_cfg)
