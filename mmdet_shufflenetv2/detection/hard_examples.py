"""Online hard example mining (OHEM) without a quota of foreground.

As Light-Head R-CNN (arXiv 1711.07264) and R-FCN (arXiv 1605.06409, section
2) do it. Shapes: K RoIs of all images together.
"""

import torch
from torch import Tensor

from ..arguments import check_positive


class HardExampleLoss:
    """Lets a box head of mmdet train on the hardest RoIs only.

    A mixin before a ``BBoxHead``. All RoIs must reach the loss: use mmdet's
    ``PseudoSampler``, or ``RandomSampler`` with ``pos_fraction=1`` and a
    ``num`` above the number of proposals, which adds the ground truth.

    Args:
        ohem_num: How many RoIs of an image train the head: those with the
            largest sum of class and box loss. ``None`` trains on whatever
            the sampler chose.
        num_hard: An older name of ``ohem_num``.
        kwargs: Those of the box head.

    Raises:
        ValueError: If ``ohem_num`` is not a positive whole number.
    """

    def __init__(
        self,
        *args,
        ohem_num: int | None = None,
        num_hard: int | None = None,
        **kwargs,
    ):
        ohem_num = num_hard if ohem_num is None else ohem_num
        if ohem_num is not None:
            ohem_num = check_positive('ohem_num', ohem_num)
        super().__init__(*args, **kwargs)
        self.ohem_num = ohem_num

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
            cls_score: (K, classes + 1), or (K, classes) with sigmoid.
            bbox_pred: (K, 4 * classes), or (K, 4) if class-agnostic.
            rois: (K, 5), the first column being the image.
            labels: (K,), the background being ``num_classes``.
            label_weights: (K,).
            bbox_targets: (K, 4).
            bbox_weights: (K, 4).
            reduction_override: As in mmdet's losses.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``acc``.

        Raises:
            ValueError: A loss cannot be told apart by RoI.
        """
        targets = labels, label_weights, bbox_targets, bbox_weights
        if self.ohem_num is not None and len(rois):
            with torch.no_grad():
                each = self._loss_of_each(cls_score, bbox_pred, rois, *targets)
                hard = hardest_per_image(each, rois[:, 0], self.ohem_num)
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
        """Sum class and box loss of each RoI, unreduced, (K,).

        Losses differ in the shape of what they do not reduce: one value per
        RoI, or one per class or coordinate of it, for all RoIs or for the
        positive ones.
        """
        losses = super().loss(
            cls_score, bbox_pred, rois, labels, *weights_and_targets, 'none'
        )
        positive = (labels >= 0) & (labels < self.num_classes)
        num_positive = int(positive.sum())
        each = cls_score.new_zeros(len(labels))
        for name, loss in losses.items():
            if not name.startswith('loss'):
                continue
            if name == 'loss_bbox' and not num_positive:
                continue
            rows = loss.flatten(1).sum(1) if loss.dim() > 1 else loss
            if rows.shape == each.shape:
                each += rows
            elif rows.shape == (num_positive,):
                each[positive] += rows
            else:
                raise ValueError(
                    f'ohem_num needs a loss of each RoI: expected {name} of '
                    f'{len(labels)} RoIs or of their {num_positive} positive '
                    f"ones under reduction='none', got {tuple(loss.shape)}"
                )
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
