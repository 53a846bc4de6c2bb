"""Suppressed boxes contribute to the detections."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from torchvision.ops import box_iou

from mmdet_shufflenetv2.detection import LightHeadBBoxHead


def by_loop(boxes, scores, label, score_thr, iou_threshold, sigma):
    """Detections of one class as (score, label, *box), one by one."""
    order = scores.argsort(descending=True).tolist()
    order = [i for i in order if scores[i] > score_thr]
    iou = box_iou(boxes, boxes).tolist()
    survivors, found = [], []
    for i in order:
        over = [s for s in survivors if iou[s][i] > iou_threshold]
        if not over:
            survivors.append(i)
        score = float(scores[i]) * math.prod(
            0.3 * (1 - iou[s][i]) for s in over
        )
        weights = [
            float(scores[j]) * math.exp(-((1 - iou[i][j]) ** 2) / sigma)
            for j in order
        ]
        box = sum(w * boxes[j] for w, j in zip(weights, order, strict=True))
        if score > score_thr:
            found.append((score, label, *(box / sum(weights)).tolist()))
    return found


@pytest.mark.parametrize('agnostic', [True, False])
def test_detections_equal_a_loop(agnostic):
    torch.manual_seed(0)
    head = LightHeadBBoxHead(
        in_channels=10, num_classes=2, reg_class_agnostic=agnostic
    )
    low = torch.rand(60, 2) * 60
    rois = torch.cat([torch.zeros(60, 1), low, low + 30], 1)
    deltas = torch.randn(60, 4 if agnostic else 8) / 2
    logits, meta = torch.randn(60, 3), dict(img_shape=(100, 100))

    def predict(count, score_thr):
        nms = dict(type='soft_voting', iou_threshold=0.5, sigma=0.05)
        cfg = dict(score_thr=score_thr, nms=nms, max_per_img=1000)
        outputs = ((each[:count],) for each in (rois, logits, deltas))
        (found,) = head.predict_by_feat(
            *outputs, [meta], rcnn_test_cfg=ConfigDict(cfg)
        )
        return found

    boxes = head.bbox_coder.decode(
        rois[:, 1:].repeat_interleave(deltas.size(1) // 4, 0),
        deltas.view(-1, 4),
        meta['img_shape'],
    ).view(60, -1, 4)
    scores = logits.softmax(1)
    expected = [
        row
        for label in range(2)
        for row in by_loop(
            boxes[:, label % boxes.size(1)],
            scores[:, label],
            label,
            *(0.02, 0.5, 0.05),
        )
    ]
    found = predict(60, 0.02)
    assert len(found) == len(expected) > 20
    columns = found.scores[:, None], found.labels[:, None], found.bboxes
    for one, other in zip(
        torch.cat(columns, 1), sorted(expected, reverse=True), strict=True
    ):
        assert one.tolist() == pytest.approx(other, abs=1e-3)
    assert predict(3, 2.0).bboxes.shape == (0, 4)
