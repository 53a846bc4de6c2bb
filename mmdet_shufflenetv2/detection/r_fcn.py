"""R-FCN (arXiv 1605.06409): the bins of position-sensitive maps vote.

Shapes: N images, K RoIs, P x P bins, S = classes + 1 scores, B = 4 box values
(times the classes unless boxes are class-agnostic), h x w the map's size.
"""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..arguments import check_positive
from .hard_examples import HardExampleLoss
from .neck import RoIMapNeck
from .soft_voting import SoftVoting


@MODELS.register_module()
class RFCNNeck(RoIMapNeck):
    """The score map and the box map of R-FCN, in one tensor.

    One pooling serves both maps, because they are pooled from the same RoIs.
    The score map alone has ``P * P * S`` channels, 3969 for COCO: this is
    what Light-Head R-CNN makes thin.

    Args:
        in_channels: Channels of each input level.
        num_classes: Without the background.
        mid_channels: Output channels of a 1x1 convolution with ReLU before
            the maps, 1024 in the paper; ``None`` leaves it out.
        bins: P, bins per side of a RoI.
        reg_class_agnostic: One box per RoI, as in the paper, or one per
            class; must be the same in the box head.
        rpn_level: The input level of the RPN; the maps have the last.
        init_cfg: The default is the paper's Gaussian with std 0.01.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        mid_channels: int | None = 1024,
        bins: int = 7,
        reg_class_agnostic: bool = True,
        rpn_level: int = 0,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            in_channels,
            rpn_level,
            init_cfg or dict(type='Normal', layer='Conv2d', std=0.01),
        )
        num_classes = check_positive('num_classes', num_classes)
        bins = check_positive('bins', bins)
        channels = self.in_channels[-1]
        self.reduce = None
        if mid_channels is not None:
            mid_channels = check_positive('mid_channels', mid_channels)
            self.reduce = nn.Sequential(
                nn.Conv2d(channels, mid_channels, 1), nn.ReLU(inplace=True)
            )
            channels = mid_channels
        box_dim = 4 if reg_class_agnostic else 4 * num_classes
        self.score_conv = nn.Conv2d(channels, bins**2 * (num_classes + 1), 1)
        self.box_conv = nn.Conv2d(channels, bins**2 * box_dim, 1)
        self.out_channels = bins**2 * (num_classes + 1 + box_dim)

    def roi_map(self, x: Tensor) -> Tensor:
        """Map (N, C_in, h, w) to (N, (S+B)*P*P, h, w), scores first."""
        if self.reduce is not None:
            x = self.reduce(x)
        return torch.cat([self.score_conv(x), self.box_conv(x)], 1)


@MODELS.register_module()
class RFCNBBoxHead(SoftVoting, HardExampleLoss, BBoxHead):
    """Average the votes of a RoI's bins, without any trainable layer.

    Args:
        num_classes: Without the background; must be the same in the neck.
        reg_class_agnostic: See :class:`RFCNNeck`.
        kwargs: As in mmdet's ``BBoxHead``, and ``ohem_num`` of
            :class:`HardExampleLoss` (128 in the paper).
    """

    def __init__(
        self, *args, reg_class_agnostic: bool = True, **kwargs
    ) -> None:
        super().__init__(
            *args,
            in_channels=1,
            reg_class_agnostic=reg_class_agnostic,
            # None would initialise the layers deleted below.
            init_cfg=[],
            **kwargs,
        )
        del self.fc_cls, self.fc_reg

    reads_every_bin = False
    fitting_options = (
        'set num_classes and reg_class_agnostic alike in neck and '
        'bbox_head, and neck.bins to roi_layer.output_size'
    )

    @property
    def values_per_bin(self) -> int:
        """S + B, the scores and box values that each bin votes for."""
        boxes = 4 if self.reg_class_agnostic else 4 * self.num_classes
        return self.num_classes + 1 + boxes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map pooled (K, S + B, P, P) to scores (K, S) and deltas (K, B)."""
        if x.shape[1] != self.values_per_bin:
            raise ValueError(
                f'bbox_head: expected {self.values_per_bin} values per bin, '
                f'got {x.shape[1]}; {self.fitting_options}'
            )
        return x.mean((2, 3)).tensor_split([self.num_classes + 1], 1)
