"""Online hard example mining without a quota of foreground.

As Light-Head R-CNN (arXiv 1711.07264) and R-FCN (arXiv 1605.06409, section
2) do it. Shapes: K RoIs.
"""

import torch
from torch import Tensor

from ..arguments import check_positive


class HardExampleLoss:
    """Lets a box head of mmdet train on the hardest RoIs only.

    A mixin in front of a ``BBoxHead``; all RoIs must arrive, so it goes
    with mmdet's ``PseudoSampler``.

    Args:
        num_hard: How many RoIs of an image train the head: those with the
            largest sum of class and box loss. ``None`` trains on whatever
            the sampler chose.
        kwargs: Those of the box head.

    Raises:
        ValueError: If ``num_hard`` is not positive and whole.
    """

    def __init__(self, *args, num_hard: int | None = None, **kwargs):
        if num_hard is not None:
            num_hard = check_positive('num_hard', num_hard)
        super().__init__(*args, **kwargs)
        self.num_hard = num_hard

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        reduction_override: str | None = None,
    ) -> dict:
        """Compute class and box loss of all or of the hardest RoIs.

        Args:
            cls_score: (K, classes + 1).
            bbox_pred: (K, 4 * classes), or (K, 4) if class-agnostic.
            rois: (K, 5), the first column being the image.
            labels: (K,), the background being ``num_classes``.
            label_weights: (K,).
            bbox_targets: (K, 4).
            bbox_weights: (K, 4).
            reduction_override: As in mmdet's losses.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``acc``.
        """
        targets = labels, label_weights, bbox_targets, bbox_weights
        if self.num_hard is not None and len(rois):
            with torch.no_grad():
                each = self._loss_of_each(cls_score, bbox_pred, rois, *targets)
                hard = hardest_per_image(each, rois[:, 0], self.num_hard)
            cls_score, bbox_pred, rois = (
                tensor[hard] for tensor in (cls_score, bbox_pred, rois)
            )
            targets = tuple(tensor[hard] for tensor in targets)
        return super().loss(
            cls_score, bbox_pred, rois, *targets, reduction_override
        )

    def _loss_of_each(
        self, cls_score, bbox_pred, rois, labels, *weights_and_targets
    ) -> Tensor:
        """Sum class and box loss of each RoI, unreduced, (K,)."""
        losses = super().loss(
            cls_score, bbox_pred, rois, labels, *weights_and_targets, 'none'
        )
        each = losses['loss_cls'].clone()
        positive = (labels >= 0) & (labels < self.num_classes)
        if positive.any():
            each[positive] += losses['loss_bbox'].sum(-1)
        return each


def hardest_per_image(losses: Tensor, image: Tensor, num: int) -> Tensor:
    """Choose the ``num`` largest losses of each image.

    Args:
        losses: (K,).
        image: (K,), the image each belongs to.
        num: How many to choose of each image; all where it has fewer.

    Returns:
        Ascending indices of the chosen.
    """
    order = losses.argsort(descending=True)
    order = order[image[order].argsort(stable=True)]
    grouped = image[order]
    first = torch.searchsorted(grouped, grouped)
    rank = torch.arange(len(order), device=order.device) - first
    return order[rank < num].sort().values
