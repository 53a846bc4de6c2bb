"""The region proposal network of Light-Head R-CNN (arXiv 1711.07264).

Shapes: N images, A anchors per position, h x w the RPN's map.
"""

from collections.abc import Sequence

from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import nms


@MODELS.register_module()
class LightHeadRPNHead(RPNHead):
    """mmdet's RPN head on the last of the neck's maps, with faster proposals.

    It ranks and decodes the whole batch at once, and NMS stops as soon as
    ``max_per_img`` boxes are kept. The proposals equal mmdet's.
    """

    def forward(self, x: Sequence[Tensor]) -> tuple[list, list]:
        """Scores (N, A, h, w) and deltas (N, 4 * A, h, w) of the last map."""
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

        Arguments and result are those of mmdet's ``RPNHead``: per image,
        ``bboxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,), best first.
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
        return [
            self._suppress(*image, meta, cfg, rescale)
            for *image, meta in zip(
                scores, boxes, batch_img_metas, strict=True
            )
        ]

    @staticmethod
    def _suppress(
        scores: Tensor, boxes: Tensor, meta: dict, cfg: dict, rescale: bool
    ) -> InstanceData:
        """Drop small and overlapping boxes of one image."""
        if rescale:
            boxes = boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)
        min_size = cfg.get('min_bbox_size', -1)
        if min_size >= 0:
            large = ((boxes[:, 2:] - boxes[:, :2]) > min_size).all(1)
            scores, boxes = scores[large], boxes[large]
        keep = first_kept(
            boxes, scores, cfg.nms.iou_threshold, cfg.max_per_img
        )
        return InstanceData(
            bboxes=boxes[keep],
            scores=scores[keep],
            labels=keep.new_zeros(len(keep)),
        )

    def _top_boxes(
        self,
        logits: Tensor,
        deltas: Tensor,
        nms_pre: int,
        img_shapes: list[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        """Decode and clip the best ``nms_pre`` anchors, or all.

        Returns descending scores (N, n) and boxes (N, n, 4).
        """
        num_images, featmap_size = len(logits), logits.shape[-2:]
        # (N, A, h, w) -> (N, h * w * A), the order of the anchors.
        logits = logits.permute(0, 2, 3, 1).reshape(num_images, -1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(num_images, -1, 4)
        count = logits.shape[1]
        if nms_pre > 0:
            count = min(count, nms_pre)
        # The sigmoid is monotonic, so it can wait until after the ranking.
        logits, index = logits.topk(count)
        priors = self.prior_generator.sparse_priors(
            index.flatten(), featmap_size, 0, logits.dtype, logits.device
        ).view(num_images, count, 4)
        deltas = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        # The coder clips to several shapes on a slow path only; clip below.
        boxes = self.bbox_coder.decode(
            priors.flatten(0, 1), deltas.flatten(0, 1)
        ).view(num_images, count, 4)
        limits = boxes.new_tensor([shape[::-1] for shape in img_shapes])
        limits = limits.repeat(1, 2)[:, None]
        return logits.sigmoid(), boxes.clamp(min=0).minimum(limits)


def first_kept(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_num: int
) -> Tensor:
    """Indices of the first ``max_num`` boxes that survive NMS.

    ``boxes`` (n, 4) and ``scores`` (n,) must be sorted, best first. Whether a
    box survives depends on better boxes only. On the CPU, where NMS is a
    quadratic loop, it therefore runs on a growing prefix until enough boxes
    survive; a GPU handles all pairs at once, without synchronising.
    """
    prefix = len(boxes) if boxes.is_cuda else 2 * max_num
    while True:
        keep = nms(
            boxes[:prefix].float(), scores[:prefix].float(), iou_threshold
        )
        if len(keep) >= max_num or prefix >= len(boxes):
            return keep[:max_num]
        prefix *= 2
