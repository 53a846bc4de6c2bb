"""Non-maximum suppression that also uses the boxes it suppresses.

A suppressed box keeps a share of its score, as in soft-NMS (arXiv 1704.04503,
linear rule, against the survivors only), but too small a share to be drawn in
pictures. Each detection is the mean of the boxes around it, weighted by score
and overlap (arXiv 1809.08545, section 3.3, without a predicted variance).

Shapes: N images, n candidates per image, best first, D detections. Boxes are
x1, y1, x2, y2. ``apart`` are boxes shifted by class so that different classes
do not overlap. A negative score marks padding.
"""

import torch
import torchvision
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

NAME = 'soft_voting'
#: Candidates per requested detection; worse boxes are ignored.
CANDIDATES = 6
#: A suppressed box keeps this share of its score, times 1 - IoU.
SHARE = 0.3
#: How fast a box's weight falls with its distance, 1 - IoU.
SIGMA = 0.025


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, D, n) of boxes (N, D, 4) with others (N, n, 4).

    Uses differences, because ONNX Runtime broadcasts them ten times as fast
    as minima and maxima.
    """
    x1, y1, x2, y2 = boxes[:, :, None].unbind(3)
    u1, v1, u2, v2 = others[:, None].unbind(3)
    width = (x2 - x1) - (u1 - x1).relu() - (x2 - u2).relu()
    height = (y2 - y1) - (v1 - y1).relu() - (y2 - v2).relu()
    both = width.relu() * height.relu()
    areas = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)
    return both / (areas - both).clamp(min=1e-6)


def decayed_scores(
    apart: Tensor, scores: Tensor, survivors: Tensor, iou_threshold: float
) -> Tensor:
    """Scores (N, n), reduced for the boxes that plain NMS would remove.

    ``survivors`` (N, S) are indices of candidates; n is padding.
    """
    count = scores.size(1)
    chosen = survivors.clamp(max=count - 1)[..., None].expand(-1, -1, 4)
    iou = overlaps(apart.gather(1, chosen), apart)
    rank = torch.arange(count, device=scores.device)
    suppressed = (iou > iou_threshold) & (survivors[..., None] < rank)
    share = torch.where(suppressed, SHARE * (1 - iou), 1.0).prod(1)
    return torch.where(scores >= 0, scores * share, scores)


def voted_boxes(
    detected: Tensor,
    detected_apart: Tensor,
    boxes: Tensor,
    apart: Tensor,
    scores: Tensor,
    sigma: float = SIGMA,
) -> Tensor:
    """Weighted means (N, D, 4) of the ``boxes`` around each detection."""
    distance = 1 - overlaps(detected_apart, apart)
    weights = (-(distance**2) / sigma).exp() * scores.clamp(min=0)[:, None]
    # A box without area does not even overlap itself.
    least = 1e-6
    total = weights.sum(2, keepdim=True) + least
    return (weights @ boxes + least * detected) / total


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    nms: dict,
    score_thr: float,
    most: int,
) -> InstanceData:
    """Turn boxes (n, 4) with scores and labels (n,) into detections.

    Args:
        nms: ``dict(type='soft_voting', iou_threshold=0.5)``, optionally with
            ``sigma`` and ``class_agnostic``.
        score_thr: Scores must exceed this before and after suppression.
        most: The maximum number of detections; -1 for no limit.
    """
    index = (scores > score_thr).nonzero().squeeze(1)
    index = index[scores[index].argsort(descending=True, stable=True)]
    most = most if most > 0 else len(index)
    index = index[: CANDIDATES * most]
    boxes, scores, labels = boxes[index], scores[index], labels[index]
    apart = boxes
    if len(boxes) and not nms.get('class_agnostic', False):
        apart = boxes + labels[:, None] * (boxes.max() + 1)
    limit = nms['iou_threshold']
    kept = torchvision.ops.nms(apart, scores, limit)[:most]
    decayed = decayed_scores(apart[None], scores[None], kept[None], limit)[0]
    index = (decayed > score_thr).nonzero().squeeze(1)
    index = index[decayed[index].argsort(descending=True)[:most]]
    voted = voted_boxes(
        boxes[None, index],
        apart[None, index],
        boxes[None],
        apart[None],
        scores[None],
        nms.get('sigma', SIGMA),
    )
    return InstanceData(
        bboxes=voted[0], scores=decayed[index], labels=labels[index]
    )


class SoftVoting:
    """Mixin that supports ``nms=dict(type='soft_voting')`` in test configs.

    Put it before a ``BBoxHead``.
    """

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: dict | None = None,
    ) -> InstanceData:
        inputs = roi, cls_score, bbox_pred, img_meta, rescale
        cfg = rcnn_test_cfg
        if cfg is None or cfg.nms.get('type') != NAME:
            return super()._predict_by_feat_single(*inputs, cfg)
        found = super()._predict_by_feat_single(*inputs, None)
        scores = found.scores[:, :-1].float()
        count, num_classes = scores.shape
        boxes = found.bboxes.float().view(count, -1, 4)
        boxes = boxes.expand(count, num_classes, 4).reshape(-1, 4)
        labels = torch.arange(num_classes, device=scores.device).repeat(count)
        limits = cfg.nms, cfg.score_thr, cfg.max_per_img
        return suppress(boxes, scores.flatten(), labels, *limits)


@MODELS.register_module()
class SoftVotingTTA(DetTTAModel):
    """mmdet's test-time augmentation with views merged by soft voting.

    Args:
        tta_cfg: ``dict(nms=..., max_per_img=...)``, as in a box head's test
            config.
        kwargs: As in mmdet's ``DetTTAModel``.
    """

    def _merge_single_sample(
        self, data_samples: list[DetDataSample]
    ) -> DetDataSample:
        found = [sample.pred_instances for sample in data_samples]
        boxes, scores = self.merge_aug_bboxes(
            [each.bboxes for each in found],
            [each.scores for each in found],
            [sample.metainfo for sample in data_samples],
        )
        labels = torch.cat([each.labels for each in found])
        limits = self.tta_cfg.nms, 0.0, self.tta_cfg.max_per_img
        merged = data_samples[0]
        merged.pred_instances = suppress(boxes, scores, labels, *limits)
        return merged
