"""Top-k error, and the published one beside it."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.classification import ClassificationError


def evaluate(scores, labels, **options) -> dict[str, float]:
    metric = ClassificationError(**options)
    samples = [
        DataSample().set_gt_label(label).set_pred_score(score).to_dict()
        for score, label in zip(scores, labels, strict=True)
    ]
    metric.process(None, samples)
    return metric.evaluate(len(samples))


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_error_is_the_share_of_images_without_their_class():
    # The right class is the best guess of images 0 to 6, the third one of 7
    # and 8, the last one of 9.
    scores = torch.arange(10.0, 0, -1).repeat(10, 1)
    labels = [0] * 7 + [2, 2, 9]
    errors = evaluate(scores, labels)
    assert errors == {
        'error/top1': pytest.approx(30.0),
        'error/top5': pytest.approx(10.0),
    }


def test_a_right_guess_of_probability_0_is_right():
    scores = torch.tensor([[0.0, -1.0], [0.0, -1.0]])
    assert evaluate(scores, [0, 1], topk=(1,)) == {'error/top1': 50.0}


def test_top5_of_three_classes_is_left_out():
    assert set(evaluate(torch.eye(3), [0, 1, 2])) == {'error/top1'}


def test_the_published_error_is_logged_beside(log):
    evaluate(torch.eye(8), range(8), published={1: 30.6})
    assert (
        'top-1 error 0.00 % (published: 30.60 %), '
        'top-5 error 0.00 % (published: none)'
    ) in log.messages


def test_nothing_is_said_where_nothing_is_published(log):
    evaluate(torch.eye(8), range(8))
    assert not any('published' in message for message in log.messages)
