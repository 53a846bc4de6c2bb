"""Non-maximum suppression that still uses the boxes it suppresses.

A suppressed box keeps the share of its score that soft-NMS leaves it (arXiv
1704.04503, the linear rule, against the survivors only), and each detection
is the mean of the boxes around it, weighted by score and overlap (arXiv
1809.08545, section 3.3, without a predicted variance).

Shapes: N images, n candidates of each, best first, D detections. Boxes are
x1, y1, x2, y2; ``apart`` are those moved so that boxes of different classes
do not meet. A score below 0 is padding.
"""

import torch
import torchvision
from mmengine.structures import InstanceData
from torch import Tensor

NAME = 'soft_voting'
#: The best candidates alone have a say: this many for each detection wanted.
CANDIDATES = 6
#: How fast a box's weight falls with its distance 1 - IoU.
SIGMA = 0.025


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, D, n) of boxes (N, D, 4) with others (N, n, 4).

    Broken into differences, which ONNX Runtime broadcasts ten times as fast
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
    """Scores (N, n), of what plain suppression removes reduced.

    ``survivors`` (N, S) are candidates by number, n standing for none.
    """
    count = scores.size(1)
    chosen = survivors.clamp(max=count - 1)[..., None].expand(-1, -1, 4)
    iou = overlaps(apart.gather(1, chosen), apart)
    rank = torch.arange(count, device=scores.device)
    suppressed = (iou > iou_threshold) & (survivors[..., None] < rank)
    share = torch.where(suppressed, 1 - iou, 1.0).prod(1)
    return torch.where(scores >= 0, scores * share, scores)


def voted_boxes(
    detected: Tensor,
    detected_apart: Tensor,
    boxes: Tensor,
    apart: Tensor,
    scores: Tensor,
    sigma: float = SIGMA,
) -> Tensor:
    """Means (N, D, 4) of ``boxes`` around those detected (N, D, 4)."""
    distance = 1 - overlaps(detected_apart, apart)
    weights = (-(distance**2) / sigma).exp() * scores.clamp(min=0)[:, None]
    # A box without area overlaps nothing, not even itself.
    least = 1e-6
    total = weights.sum(2, keepdim=True) + least
    return (weights @ boxes + least * detected) / total


class SoftVoting:
    """Lets a box head's test config say ``nms=dict(type='soft_voting')``.

    A mixin before a ``BBoxHead``. Besides ``iou_threshold`` the dict may have
    ``sigma`` and ``class_agnostic``.
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
        nms = {} if rcnn_test_cfg is None else rcnn_test_cfg.nms
        if nms.get('type') != NAME:
            return super()._predict_by_feat_single(*inputs, rcnn_test_cfg)
        found = super()._predict_by_feat_single(*inputs, None)
        scores = found.scores[:, :-1].float()
        boxes = found.bboxes.float().view(len(scores), -1, 4)
        boxes = boxes.expand(*scores.shape, 4)
        roi, label = (scores > rcnn_test_cfg.score_thr).nonzero(as_tuple=True)
        order = scores[roi, label].argsort(descending=True, stable=True)
        most = rcnn_test_cfg.max_per_img
        most = most if most > 0 else len(order)
        order = order[: CANDIDATES * most]
        roi, label = roi[order], label[order]
        boxes, scores = boxes[roi, label], scores[roi, label]
        apart = boxes
        if len(boxes) and not nms.get('class_agnostic', False):
            apart = boxes + label[:, None] * (boxes.max() + 1)
        limit = nms.iou_threshold
        kept = torchvision.ops.nms(apart, scores, limit)[:most]
        decayed = decayed_scores(apart[None], scores[None], kept[None], limit)
        index = (decayed[0] > rcnn_test_cfg.score_thr).nonzero().squeeze(1)
        index = index[decayed[0][index].argsort(descending=True)[:most]]
        voted = voted_boxes(
            boxes[None, index],
            apart[None, index],
            boxes[None],
            apart[None],
            scores[None],
            nms.get('sigma', SIGMA),
        )
        return InstanceData(
            bboxes=voted[0], scores=decayed[0][index], labels=label[index]
        )
