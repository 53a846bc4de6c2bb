"""Suppression of overlapping boxes.

Shapes: N boxes as (N, 4) corners x1, y1, x2, y2 in pixels. ``offset`` 1 is
the old convention by which a box from 0 to 0 is one pixel wide.
"""

import numpy as np
import torch
from torch import Tensor

from . import full_precision


def nms(
    boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int
) -> Tensor:
    """Indices (K,) of the boxes kept, best score first."""
    boxes = full_precision(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(
        boxes, scores.to(boxes.dtype), iou_threshold
    )


# By the numbers that mmcv.ops.soft_nms sends for 'naive', 'linear' and
# 'gaussian': the factor on a score whose box overlaps a better one.
SCORE_DECAYS = (
    lambda iou, threshold, sigma: iou < threshold,
    lambda iou, threshold, sigma: np.where(iou < threshold, 1, 1 - iou),
    lambda iou, threshold, sigma: np.exp(-iou * iou / sigma),
)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    *,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (arXiv 1704.04503); all tensors are on the CPU.

    One step per box kept, each over all boxes: NumPy, because a step is a
    dozen operations on short arrays, where torch's dispatch costs more than
    the arithmetic.

    Args:
        dets: (N, 5), receives the K boxes kept and their decayed scores in
            its first K rows.
        method: Index into ``SCORE_DECAYS``.

    Returns:
        Indices (K,) of the boxes kept, in the order of their final scores.
    """
    corners = full_precision(boxes).detach().numpy()
    left = full_precision(scores).detach().numpy().copy()
    decay = SCORE_DECAYS[method]
    kept, kept_scores = [], []
    for _ in range(len(left)):
        best = int(left.argmax())
        if left[best] == -np.inf:
            break
        kept.append(best)
        kept_scores.append(float(left[best]))
        left[best] = -np.inf
        iou = _overlaps_of_one(corners[best], corners, offset)
        # A decay of zero times minus infinity would bring a box back as NaN.
        np.multiply(
            left,
            decay(iou, iou_threshold, sigma),
            out=left,
            where=left > -np.inf,
        )
        left[left < min_score] = -np.inf
    indices = torch.tensor(kept, dtype=torch.long)
    dets[: len(kept), :4] = boxes[indices]
    dets[: len(kept), 4] = torch.tensor(kept_scores, dtype=dets.dtype)
    return indices


def _overlaps_of_one(
    box: np.ndarray, boxes: np.ndarray, offset: int
) -> np.ndarray:
    """IoU (N,) of one box (4,) with each of ``boxes`` (N, 4).

    That of two boxes without area is 0.
    """
    x1, y1, x2, y2 = boxes.T
    width = np.minimum(x2, box[2]) - np.maximum(x1, box[0]) + offset
    height = np.minimum(y2, box[3]) - np.maximum(y1, box[1]) + offset
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    own_area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    union = own_area + area - shared
    return np.divide(shared, union, where=union > 0, out=np.zeros_like(union))


def nms_match(dets: Tensor, *, iou_threshold: float) -> list[list[int]]:
    """Groups of the rows of ``dets`` (N, 5), x1, y1, x2, y2, score.

    Each group opens with a box that NMS keeps; then come the boxes which it
    suppresses, best score first. ``dets`` is on the CPU.
    """
    rows = full_precision(dets).numpy()
    order = np.argsort(-rows[:, 4], kind='stable')
    groups = []
    while len(order):
        best, rest = order[0], order[1:]
        iou = _overlaps_of_one(rows[best, :4], rows[rest, :4], offset=0)
        suppressed = iou >= iou_threshold
        groups.append([int(best), *rest[suppressed].tolist()])
        order = rest[~suppressed]
    return groups
