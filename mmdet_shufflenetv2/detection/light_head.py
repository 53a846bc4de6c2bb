"""RPN and RoI parts of Light-Head R-CNN (arXiv 1711.07264, section 3).

Shapes: N images, A anchors per place, h x w the RPN's map, B = h * w * A
anchors per image, K RoIs, C channels of a pooled bin, P x P bins.
"""

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import nms

from ..ops import PSRoIAlign, PSRoIPool

ROI_LAYERS = {'PSRoIAlign': PSRoIAlign, 'PSRoIPool': PSRoIPool}


@MODELS.register_module()
class LightHeadRPNHead(RPNHead):
    """mmdet's RPN head on the last of the neck's maps.

    Proposals are ranked and decoded for the whole batch at once, and the
    suppression stops as soon as ``max_per_img`` boxes are sure to be kept;
    the proposals are those of mmdet's own loop.
    """

    def forward(self, x: Sequence[Tensor]) -> tuple[list, list]:
        """Score the anchors of the last map.

        Args:
            x: The neck's maps; only the last, (N, ``in_channels``, h, w),
                is read.

        Returns:
            Two lists of one tensor: scores (N, A, h, w) and box deltas
            (N, 4 * A, h, w).
        """
        return super().forward(x[-1:])

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: dict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Turn scores and deltas into ranked proposals.

        Args:
            cls_scores: One tensor (N, A, h, w).
            bbox_preds: One tensor (N, 4 * A, h, w).
            score_factors: Unused, as in mmdet's RPN head.
            batch_img_metas: ``img_shape`` (and ``scale_factor`` for
                ``rescale``) of each image.
            cfg: ``nms_pre``, ``nms``, ``max_per_img``, ``min_bbox_size``;
                ``test_cfg`` by default.
            rescale: Give boxes in the original image's pixels.
            with_nms: Must be true, as in mmdet's RPN head.

        Returns:
            For each image the ``bboxes`` (n, 4), ``scores`` (n,), best
            first, and ``labels`` (n,), all zero.
        """
        cfg = self.test_cfg if cfg is None else cfg
        stock = not self.use_sigmoid_cls or cfg.nms.type != 'nms'
        if stock or len(cls_scores) != 1 or not with_nms:
            return super().predict_by_feat(
                cls_scores,
                bbox_preds,
                score_factors,
                batch_img_metas,
                cfg,
                rescale,
                with_nms,
            )
        scores, boxes = self._top_boxes(
            cls_scores[0].detach(),
            bbox_preds[0].detach(),
            cfg.get('nms_pre', -1),
            [meta['img_shape'][:2] for meta in batch_img_metas],
        )
        min_size = cfg.get('min_bbox_size', -1)
        results = []
        for score, box, meta in zip(
            scores, boxes, batch_img_metas, strict=True
        ):
            if rescale:
                box = box / box.new_tensor(meta['scale_factor']).repeat(2)
            if min_size >= 0:
                large = ((box[:, 2:] - box[:, :2]) > min_size).all(1)
                score, box = score[large], box[large]
            keep = first_kept(
                box, score, cfg.nms.iou_threshold, cfg.max_per_img
            )
            results.append(
                InstanceData(
                    bboxes=box[keep],
                    scores=score[keep],
                    labels=keep.new_zeros(len(keep)),
                )
            )
        return results

    def _top_boxes(
        self,
        logits: Tensor,
        deltas: Tensor,
        nms_pre: int,
        img_shapes: list[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        """Decode the best anchors of each image and clip them to it.

        Returns:
            Scores (N, n), descending, and boxes (N, n, 4), n being
            ``nms_pre`` or all B anchors where that is less or negative.
        """
        num_images, featmap_size = len(logits), logits.shape[-2:]
        # (N, A, h, w) -> (N, h * w * A), the order of the anchors.
        logits = logits.permute(0, 2, 3, 1).reshape(num_images, -1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(num_images, -1, 4)
        count = logits.shape[1]
        if nms_pre > 0:
            count = min(count, nms_pre)
        # The sigmoid is monotonic: rank first, squash what is left.
        logits, index = logits.topk(count)
        priors = self.prior_generator.sparse_priors(
            index.flatten(), featmap_size, 0, logits.dtype, logits.device
        ).view(num_images, count, 4)
        deltas = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        # The coder's own clipping takes one shape or a slow general path.
        boxes = self.bbox_coder.decode(
            priors.flatten(0, 1), deltas.flatten(0, 1)
        ).view(num_images, count, 4)
        limits = boxes.new_tensor([shape[::-1] for shape in img_shapes])
        limits = limits.repeat(1, 2)[:, None]
        return logits.sigmoid(), boxes.clamp(min=0).minimum(limits)


def first_kept(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_num: int
) -> Tensor:
    """Give the first ``max_num`` survivors of non-maximum suppression.

    Whether a box survives depends on better boxes only, so the survivors
    among the best n are the first survivors of all. On the CPU, where the
    suppression is a quadratic loop, it therefore runs on a growing prefix
    until enough survive; a GPU does all pairs at once without waiting.

    Args:
        boxes: (n, 4), best first.
        scores: (n,), descending.
        iou_threshold: Overlap above which the worse box goes.
        max_num: How many survivors are wanted.

    Returns:
        Indices (at most ``max_num``,), ascending.
    """
    prefix = len(boxes) if boxes.is_cuda else 2 * max_num
    while True:
        keep = nms(
            boxes[:prefix].float(), scores[:prefix].float(), iou_threshold
        )
        if len(keep) >= max_num or prefix >= len(boxes):
            return keep[:max_num]
        prefix *= 2


@MODELS.register_module()
class PSRoIExtractor(BaseRoIExtractor):
    """Position-sensitive pooling of one map.

    Args:
        roi_layer: ``dict(type=..., output_size=7, ...)`` with the type
            ``'PSRoIAlign'`` or ``'PSRoIPool'`` of this package; the
            remaining keys go to it.
        out_channels: Channels C of a pooled bin.
        featmap_strides: The stride of the one map, in a list.
        init_cfg: As in every mmengine module.

    Raises:
        ValueError: If the layer is none of the two or there is not exactly
            one stride.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: list[int],
        init_cfg: dict | list | None = None,
    ):
        if len(featmap_strides) != 1:
            raise ValueError(
                'featmap_strides must hold the stride of one map, got '
                f'{featmap_strides}'
            )
        super().__init__(roi_layer, out_channels, featmap_strides, init_cfg)

    def build_roi_layers(
        self, layer_cfg: dict, featmap_strides: list[int]
    ) -> nn.ModuleList:
        """Build the layer from our ops; mmdet's would look in mmcv's."""
        layer_cfg = dict(layer_cfg)
        layer_type = layer_cfg.pop('type', None)
        if layer_type not in ROI_LAYERS:
            raise ValueError(
                f'roi_layer.type must be one of {sorted(ROI_LAYERS)}, got '
                f'{layer_type!r}'
            )
        return nn.ModuleList(
            ROI_LAYERS[layer_type](spatial_scale=1 / stride, **layer_cfg)
            for stride in featmap_strides
        )

    def forward(
        self,
        feats: Sequence[Tensor],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Pool ``rois`` (K, 5) from ``feats[0]`` to (K, C, P, P)."""
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        return self.roi_layers[0](feats[0], rois)


@MODELS.register_module()
class LightHeadBBoxHead(ConvFCBBoxHead):
    """One fully connected layer, class scores and boxes.

    Args:
        num_hard: Online hard example mining as Light-Head R-CNN does it:
            of all RoIs of an image, the ``num_hard`` with the largest sum
            of class and box loss train the head, without a quota of
            foreground (256 in the authors' code; use mmdet's
            ``PseudoSampler`` so that all RoIs arrive). ``None`` trains on
            whatever the sampler chose.
        kwargs: Those of mmdet's ``ConvFCBBoxHead``.

    Raises:
        ValueError: If ``num_hard`` is not positive.
    """

    def __init__(
        self,
        *args,
        num_shared_fcs: int = 1,
        fc_out_channels: int = 2048,
        num_hard: int | None = None,
        **kwargs,
    ):
        super().__init__(
            *args,
            num_shared_fcs=num_shared_fcs,
            fc_out_channels=fc_out_channels,
            **kwargs,
        )
        if num_hard is not None and num_hard < 1:
            raise ValueError(
                f'num_hard must be positive or None, got {num_hard}'
            )
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
