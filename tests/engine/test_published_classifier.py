"""A classifier is a published name; its measure is the error in %."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.backbones import ShuffleNetV2
from mmdet_shufflenetv2.engine.published_classifier import ClassificationError


def build(**backbone):
    config = dict(
        type='PublishedClassifier',
        network='shufflenet_v2_x0_5',
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=7),
        backbone=backbone,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def test_backbone_is_this_projects_and_whole():
    model = build(style='authors')
    assert isinstance(model.backbone, ShuffleNetV2)
    assert model.backbone.style == 'authors'
    images = torch.rand(2, 3, 64, 64)
    assert model(images, mode='tensor').shape == (2, 7)
    with pytest.raises(ValueError, match=r'out_indices .* must be \(3,\)'):
        build(out_indices=(2, 3))


def evaluate(scores, labels, **options) -> dict[str, float]:
    metric = ClassificationError(**options)
    samples = [
        DataSample().set_gt_label(label).set_pred_score(score).to_dict()
        for score, label in zip(scores, labels, strict=True)
    ]
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_error_is_the_share_of_images_without_their_class():
    # The right class is the best guess of images 0 to 6, the third one of 7
    # and 8, the last one of 9.
    scores = torch.arange(10.0, 0, -1).repeat(10, 1)
    errors = evaluate(scores, [0] * 7 + [2, 2, 9])
    assert errors == pytest.approx({'error/top1': 30.0, 'error/top5': 10.0})
    # A right guess of probability 0 is right; top-5 of two classes is none.
    scores = torch.tensor([[0.0, -1.0], [0.0, -1.0]])
    assert evaluate(scores, [0, 1]) == {'error/top1': 50.0}
