"""The R-CNN part of Light-Head R-CNN (arXiv 1711.07264, section 3.1).

Shapes: K RoIs, C channels of a pooled bin, P x P bins.
"""

from collections.abc import Sequence

from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..ops import PSRoIAlign, PSRoIPool
from .hard_examples import HardExampleLoss
from .soft_voting import SoftVoting

ROI_LAYERS = {'PSRoIAlign': PSRoIAlign, 'PSRoIPool': PSRoIPool}


@MODELS.register_module()
class PSRoIExtractor(BaseRoIExtractor):
    """Position-sensitive pooling of one map.

    Args:
        roi_layer: ``dict(type=..., output_size=7, ...)`` where the type is
            this package's ``'PSRoIAlign'`` or ``'PSRoIPool'``; the other keys
            are its arguments.
        featmap_strides: A list with the map's stride.
        out_channels: Channels C of a pooled bin. Documents the config only;
            the map's channels determine C.
    """

    def __init__(
        self,
        roi_layer: dict,
        featmap_strides: Sequence[int],
        out_channels: int | None = None,
        init_cfg: dict | list | None = None,
    ):
        if len(featmap_strides) != 1:
            raise ValueError(
                'featmap_strides: expected the stride of one map, got '
                f'{featmap_strides}'
            )
        super().__init__(roi_layer, out_channels, featmap_strides, init_cfg)

    def build_roi_layers(
        self, layer_cfg: dict, featmap_strides: list[int]
    ) -> nn.ModuleList:
        """Build the layer from our ops; mmdet would search mmcv's only."""
        layer_cfg = dict(layer_cfg)
        layer_type = layer_cfg.pop('type', None)
        if layer_type not in ROI_LAYERS:
            raise ValueError(
                f'roi_layer.type: expected one of {sorted(ROI_LAYERS)}, got '
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
class LightHeadBBoxHead(SoftVoting, HardExampleLoss, ConvFCBBoxHead):
    """One fully connected layer, then class scores and boxes.

    Args:
        kwargs: As in mmdet's ``ConvFCBBoxHead``, and ``ohem_num`` of
            :class:`HardExampleLoss` (256 in the authors' code).
    """

    def __init__(
        self,
        *args,
        num_shared_fcs: int = 1,
        fc_out_channels: int = 2048,
        **kwargs,
    ):
        super().__init__(
            *args,
            num_shared_fcs=num_shared_fcs,
            fc_out_channels=fc_out_channels,
            **kwargs,
        )

    reads_every_bin = True
    fitting_options = (
        'set bbox_head.in_channels to neck.out_channels divided by the '
        'square of roi_layer.output_size'
    )

    @property
    def values_per_bin(self) -> int:
        """C, the channels of a pooled map."""
        return self.in_channels
