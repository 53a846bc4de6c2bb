"""Predictions of ``--out`` are read as data and evaluated again."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.fileio import dump

from mmdet_shufflenetv2.engine.predictions import (
    evaluate_predictions,
    read_predictions,
)
from mmdet_shufflenetv2.engine.run_config import UsageError

BOX = [10.0, 10.0, 20.0, 30.0]


def prediction(img_id=7, label=0):
    x, y, width, height = BOX
    return dict(
        img_id=img_id,
        img_path='7.jpg',
        ori_shape=(96, 128),
        pred_instances=dict(
            bboxes=torch.tensor([[x, y, x + width, y + height]]),
            scores=torch.tensor([0.9]),
            labels=torch.tensor([label]),
        ),
    )


@pytest.fixture
def evaluator(tmp_path) -> ConfigDict:
    """The configuration of a metric over one image with one cat."""
    path = tmp_path / 'annotations.json'
    box = dict(id=1, image_id=7, category_id=3, bbox=BOX, area=600, iscrowd=0)
    content = dict(
        images=[dict(id=7, file_name='7.jpg', width=128, height=96)],
        annotations=[box],
        categories=[dict(id=3, name='cat')],
    )
    path.write_text(json.dumps(content))
    return ConfigDict(type='CocoMetric', ann_file=str(path), metric='bbox')


def test_written_predictions_read_back_the_same(tmp_path):
    path = str(tmp_path / 'results.pkl')
    empty = prediction()
    empty['pred_instances'] = dict(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0)
    )
    dump([prediction(), empty], path)
    first, second = read_predictions(path)
    assert first['ori_shape'] == (96, 128)
    for key, value in prediction()['pred_instances'].items():
        assert torch.equal(first['pred_instances'][key], value)
    assert second['pred_instances']['bboxes'].shape == (0, 4)


def test_right_box_scores_one_and_wrong_box_zero(tmp_path, evaluator):
    path = str(tmp_path / 'results.pkl')
    dump([prediction()], path)
    metrics = evaluate_predictions(path, evaluator, ['bbox'], ['cat'])
    assert metrics['coco/bbox_mAP'] == 1
    wrong = prediction()
    wrong['pred_instances']['bboxes'] += 60
    dump([wrong], path)
    metrics = evaluate_predictions(path, evaluator, ['bbox'], ['cat'])
    assert metrics['coco/bbox_mAP'] == 0


def test_predictions_of_other_images_or_classes_are_named(tmp_path, evaluator):
    path = str(tmp_path / 'results.pkl')
    dump([prediction(), prediction(img_id=8)], path)
    with pytest.raises(UsageError, match='record 1: img_id 8 is not in'):
        evaluate_predictions(path, evaluator, ['bbox'], ['cat'])
    dump([prediction(label=1)], path)
    with pytest.raises(UsageError, match='record 0: label 1 is not in cat'):
        evaluate_predictions(path, evaluator, ['bbox'], ['cat'])


class Malicious:
    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Hidden(Malicious):
    """The same inside of what torch reads itself."""

    def __reduce__(self):
        content = pickle.dumps(Malicious(self.path), protocol=2)
        return torch.storage._load_from_bytes, (content,)


@pytest.mark.parametrize('kind', [Malicious, Hidden])
def test_nothing_that_a_pickle_says_is_run(tmp_path, kind):
    path, evidence = tmp_path / 'results.pkl', tmp_path / 'evidence'
    path.write_bytes(pickle.dumps([kind(evidence)], protocol=2))
    with pytest.raises(UsageError, match=r'results\.pkl'):
        read_predictions(str(path))
    assert not evidence.exists()


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'hello',
        pickle.dumps([1]),
        pickle.dumps(dict(img_id=1)),
        pickle.dumps([dict(prediction(), pred_instances=3)]),
        pickle.dumps([np.zeros(3)]),
    ],
    ids=['empty', 'text', 'number', 'dict', 'no boxes', 'array'],
)
def test_other_content_is_named(tmp_path, content):
    path = tmp_path / 'results.pkl'
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r'results\.pkl'):
        read_predictions(str(path))


def test_absent_file_is_named():
    with pytest.raises(UsageError, match=r'nowhere\.pkl'):
        read_predictions('nowhere.pkl')
