"""Suppressed boxes lend their scores and places to the detections."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torchvision.ops import box_iou

from mmdet_shufflenetv2.detection import LightHeadBBoxHead


def by_loop(boxes, scores, label, score_thr, iou_threshold, sigma, most):
    """Detections of one class as (score, label, box), one by one."""
    order = [
        int(i)
        for i in scores.argsort(descending=True)
        if scores[i] > score_thr
    ]
    iou = box_iou(boxes, boxes).tolist()
    survivors, found = [], []
    for i in order:
        share = 1.0
        over = [s for s in survivors if iou[s][i] > iou_threshold]
        for s in over:
            share *= 1 - iou[s][i]
        if not over:
            survivors.append(i)
        weights = [
            float(scores[j]) * math.exp(-((1 - iou[i][j]) ** 2) / sigma)
            for j in order
        ]
        box = sum(w * boxes[j] for w, j in zip(weights, order, strict=True))
        score = float(scores[i]) * share
        if score > score_thr:
            found.append((score, label, (box / sum(weights)).tolist()))
    return sorted(found, reverse=True)[:most]


@pytest.mark.parametrize('class_agnostic_boxes', [True, False])
def test_detections_are_those_of_a_loop(class_agnostic_boxes):
    torch.manual_seed(0)
    head = LightHeadBBoxHead(
        in_channels=10,
        num_classes=2,
        reg_class_agnostic=class_agnostic_boxes,
    )
    low = torch.rand(60, 2) * 60
    rois = torch.cat([torch.zeros(60, 1), low, low + 30], 1)
    deltas = torch.randn(60, 4 if class_agnostic_boxes else 8) / 2
    logits = torch.randn(60, 3)
    cfg = dict(
        score_thr=0.1,
        nms=dict(type='soft_voting', iou_threshold=0.5, sigma=0.05),
        max_per_img=1000,
    )
    (found,) = head.predict_by_feat(
        (rois,),
        (logits,),
        (deltas,),
        [dict(img_shape=(100, 100))],
        rcnn_test_cfg=ConfigDict(cfg),
    )
    boxes = head.bbox_coder.decode(
        rois[:, 1:].repeat_interleave(deltas.size(1) // 4, 0),
        deltas.view(-1, 4),
        (100, 100),
    ).view(60, -1, 4)
    scores = logits.softmax(1)
    expected = [
        row
        for label in range(2)
        for row in by_loop(
            boxes[:, label % boxes.size(1)],
            scores[:, label],
            label,
            0.1,
            *(0.5, 0.05, 1000),
        )
    ]
    expected.sort(reverse=True)
    given = zip(
        found.scores.tolist(),
        found.labels.tolist(),
        found.bboxes.tolist(),
        strict=True,
    )
    assert len(found) == len(expected) > 20
    for one, other in zip(given, expected, strict=True):
        assert one[1] == other[1]
        assert (one[0], *one[2]) == pytest.approx(
            (other[0], *other[2]), abs=1e-3
        )


def test_nothing_found_is_nothing():
    head = LightHeadBBoxHead(in_channels=10, num_classes=2)
    cfg = dict(
        score_thr=2.0,
        nms=dict(type='soft_voting', iou_threshold=0.5),
        max_per_img=5,
    )
    (found,) = head.predict_by_feat(
        (torch.zeros(3, 5),),
        (torch.zeros(3, 3),),
        (torch.zeros(3, 8),),
        [dict(img_shape=(9, 9))],
        rcnn_test_cfg=ConfigDict(cfg),
    )
    assert isinstance(found, InstanceData)
    assert found.bboxes.shape == (0, 4)
