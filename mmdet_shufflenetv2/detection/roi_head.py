"""The R-CNN part of Light-Head R-CNN (arXiv 1711.07264, section 3.1).

Shapes: K RoIs, C channels of a pooled bin, P x P bins.
"""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..ops import PSRoIAlign, PSRoIPool

ROI_LAYERS = {'PSRoIAlign': PSRoIAlign, 'PSRoIPool': PSRoIPool}


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
