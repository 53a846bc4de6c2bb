"""The light Xception that the ShuffleNet V2 paper compares with.

Paper: "Light-Head R-CNN: In Defense of Two-Stage Object Detector",
https://arxiv.org/abs/1711.07264 (Table 7: stages and channels of 1.0), after
"Xception: Deep Learning with Depthwise Separable Convolutions",
https://arxiv.org/abs/1610.02357. No code of it was published.

What is known of its unit: it is a bottleneck whose convolutions are
depthwise (separable) ones, without pre-activation (arXiv 1711.07264, section
on the fast detector), and it sees 7 pixels, so it has three 3x3 convolutions
(arXiv 1807.11164, section 4, object detection). `VARIANTS` says what was
chosen beyond that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import (
    ACT_CFG,
    NORM_CFG,
    activation,
    depthwise,
    pointwise,
    pooled_stem,
)


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        stem: output channels of the 3x3 convolution.
        channels: output channels per stage; a quarter of them inside a unit.
    """

    stem: int
    channels: tuple[int, ...]


# widen_factor -> network. 1.0 is Table 7 of arXiv 1711.07264; the other
# widths scale its stages. Chosen to meet the FLOPs column of Table 8 of
# arXiv 1807.11164 (40, 145, 305 and 525 million; these have 39.8, 143.8,
# 303.0 and 523.2):
# - the usual bottleneck, 1:4, of two separable convolutions and a depthwise
#   one between them. With a third pointwise convolution 1.0 would have 160.
# - no shortcut around a unit that changes the number of channels. With a
#   separable convolution there, as around ResNet's, 1.0 would have 163.
# - the stem: 24 channels as in 1.0 for the wider ones, and 8 for 0.5, as in
#   the network of 39 million that BiSeNet's authors published. Half of 24
#   would give 0.5 41.2.
VARIANTS = {
    0.5: Variant(8, (72, 144, 288)),
    1.0: Variant(24, (144, 288, 576)),
    1.5: Variant(24, (216, 432, 864)),
    2.0: Variant(24, (288, 576, 1152)),
}
UNITS = (4, 8, 4)
STRIDES = (2, 2, 2)


class XceptionUnit(nn.Module):
    """A bottleneck of depthwise separable convolutions.

    N images, C channels, H x W pixels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; where they are those of the
            input, the input is added to it.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
        stride: of the first convolution.
        dilations: of the first depthwise convolution, and of the two after
            the stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        *,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
    ):
        super().__init__()
        self.with_shortcut = in_channels == out_channels
        middle = out_channels // 4
        first, rest = dilations
        self.branch = nn.Sequential()
        self.branch.depthwise1 = depthwise(
            in_channels, norm_cfg, stride=stride, dilation=first
        )
        self.branch.pointwise1 = pointwise(
            in_channels, middle, norm_cfg, act_cfg
        )
        self.branch.depthwise2 = depthwise(
            middle, norm_cfg, act_cfg, dilation=rest
        )
        self.branch.depthwise3 = depthwise(middle, norm_cfg, dilation=rest)
        self.branch.pointwise3 = pointwise(
            middle, out_channels, norm_cfg, None
        )
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        main = self.branch(x)
        if self.with_shortcut:
            main = main + x
        return self.activate(main)


@MODELS.register_module()
class Xception(StagedBackbone):
    """The light Xception of Light-Head R-CNN and of Tables 7 and 8.

    Levels: 0 stage2, 1 stage3 and 2 stage4 at strides 8, 16 and 32.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        out_indices: levels to return, ascending. Nothing after the last one
            is built.
        others: as in `StagedBackbone`.
    """

    family = 'Xception'

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        variant = VARIANTS[
            check_choice('widen_factor', widen_factor, VARIANTS)
        ]
        super().__init__(('stage2', 'stage3', 'stage4'), out_indices, **staged)
        self.stem = pooled_stem(variant.stem, norm_cfg, act_cfg)
        self.add_stages(
            partial(XceptionUnit, norm_cfg=norm_cfg, act_cfg=act_cfg),
            variant.stem,
            [
                [width] * units
                for width, units in zip(variant.channels, UNITS, strict=True)
            ],
            (strides, STRIDES),
            dilations,
        )
        self.freeze_stages()
