"""Online hard example mining (OHEM) without a foreground quota.

As in Light-Head R-CNN (arXiv 1711.07264) and R-FCN (arXiv 1605.06409, section
2). Shapes: K RoIs of all images together.
"""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from ..arguments import check_positive


class HardExampleLoss:
    """Mixin that trains an mmdet box head on the hardest RoIs only.

    Put it before a ``BBoxHead``. All RoIs must reach the loss: use mmdet's
    ``PseudoSampler``, or ``RandomSampler`` with ``pos_fraction=1`` and a
    ``num`` above the number of proposals, which also adds the ground truth.
    In a `LightHeadRoIHead` only the hardest RoIs take memory.

    Args:
        ohem_num: The number of RoIs per image that train the head: those with
            the largest sum of class and box loss. ``None`` trains on all RoIs
            that the sampler chose.
        num_hard: An older name of ``ohem_num``.
        kwargs: As in the box head.
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
        """Class and box loss of the hardest RoIs, or of all.

        Arguments and result are those of mmdet's ``BBoxHead.loss``.
        """
        targets = labels, label_weights, bbox_targets, bbox_weights
        hard = self.hardest(cls_score, bbox_pred, rois, *targets)
        if hard is not None:
            cls_score, bbox_pred, rois, *targets = (
                tensor[hard]
                for tensor in (cls_score, bbox_pred, rois, *targets)
            )
        return super().loss(
            cls_score, bbox_pred, rois, *targets, reduction_override
        )

    @torch.no_grad()
    def hardest(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        *targets: Tensor,
    ) -> Tensor | None:
        """Ascending indices of the RoIs to train on; None for all.

        Unreduced losses have one value per RoI, or one per class or
        coordinate of a RoI, for all RoIs or for the positive ones only.

        Raises:
            ValueError: A loss has no values per RoI.
        """
        image = rois[:, 0]
        most = self.ohem_num or len(rois)
        if len(rois) == 0 or int(image.long().bincount().max()) <= most:
            return None
        # SeesawLoss counts samples: it must see only those trained on, once.
        counts = [buffer.clone() for buffer in self.loss_cls.buffers()]
        losses = super().loss(
            cls_score, bbox_pred, rois, labels, *targets, 'none'
        )
        for buffer, before in zip(
            self.loss_cls.buffers(), counts, strict=True
        ):
            buffer.copy_(before)
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
                    f'ohem_num needs one loss per RoI: expected {name} of '
                    f'{len(labels)} RoIs or of the {num_positive} positive '
                    f"ones with reduction='none', got {tuple(loss.shape)}"
                )
        return hardest_per_image(each, image, self.ohem_num)


@MODELS.register_module()
class LightHeadRoIHead(StandardRoIHead):
    """mmdet's RoI head with less memory for hard example mining.

    It ranks all RoIs without autograd and runs the hardest ones again with
    it. Losses and gradients are the same, and 2000 proposals take an eighth
    of the memory.
    """

    def bbox_loss(self, x: Sequence[Tensor], sampling_results: list) -> dict:
        """The box head's losses; see mmdet's ``StandardRoIHead``."""
        head = self.bbox_head
        if not isinstance(head, HardExampleLoss) or head.ohem_num is None:
            return super().bbox_loss(x, sampling_results)
        rois = bbox2roi([result.priors for result in sampling_results])
        targets = head.get_targets(sampling_results, self.train_cfg)
        with torch.no_grad():
            parts = [self._bbox_forward(x, part) for part in rois.split(2048)]
            scores, boxes = (
                torch.cat([part[name] for part in parts])
                for name in ('cls_score', 'bbox_pred')
            )
            hard = head.hardest(scores, boxes, rois, *targets)
        if hard is not None:
            rois, *targets = (tensor[hard] for tensor in (rois, *targets))
        results = self._bbox_forward(x, rois)
        loss = head.loss(
            results['cls_score'], results['bbox_pred'], rois, *targets
        )
        return dict(results, loss_bbox=loss)


def hardest_per_image(losses: Tensor, image: Tensor, num: int) -> Tensor:
    """Ascending indices of the ``num`` largest losses (K,) of each image.

    ``image`` (K,) has the index of each loss's image. Images with fewer losses
    keep all of them.
    """
    order = losses.argsort(descending=True)
    order = order[image[order].argsort(stable=True)]
    grouped = image[order]
    first = torch.searchsorted(grouped, grouped)
    rank = torch.arange(len(order), device=order.device) - first
    return order[rank < num].sort().values
