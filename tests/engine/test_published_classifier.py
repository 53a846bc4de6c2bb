"""A classifier's measure is the error in %."""

import pytest
import torch
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.engine.published_classifier import ClassificationError


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
