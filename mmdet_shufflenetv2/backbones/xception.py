"""The light Xception that the ShuffleNet V2 paper compares with.

Paper: "Light-Head R-CNN: In Defense of Two-Stage Object Detector",
https://arxiv.org/abs/1711.07264 (Table 7: stages and channels of 1.0), after
"Xception: Deep Learning with Depthwise Separable Convolutions",
https://arxiv.org/abs/1610.02357. Its code was not published.

The unit is known to be a bottleneck of depthwise separable convolutions
without pre-activation (arXiv 1711.07264, section on the fast detector), with
a receptive field of 7 pixels, hence three 3x3 convolutions (arXiv 1807.11164,
section 4, object detection). The rest is this project's choice.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone, repeated
from .layers import (
    ACT_CFG,
    NORM_CFG,
    activation,
    depthwise,
    pointwise,
    pooled_stem,
)

# widen_factor -> output channels of the stem, and of each stage; units have a
# quarter of them inside. 1.0 is Table 7 of arXiv 1711.07264; other widths
# scale its stages. Chosen to match the FLOPs in Table 8 of arXiv 1807.11164
# (docs/decisions.md): a depthwise convolution between two separable ones, no
# shortcut if the number of channels changes, and the other networks' stem.
VARIANTS = {
    0.5: (8, (72, 144, 288)),
    1.0: (24, (144, 288, 576)),
    1.5: (24, (216, 432, 864)),
    2.0: (24, (288, 576, 1152)),
}
UNITS = (4, 8, 4)


class XceptionUnit(nn.Module):
    """A bottleneck of depthwise separable convolutions.

    The input is added to the output if they have the same channels. The first
    depthwise convolution has ``stride`` and the first of ``dilations``; the
    two after it have the second.
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
        linear = dict(norm_cfg=norm_cfg, act_cfg=None)
        active = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.branch = nn.Sequential()
        self.branch.depthwise1 = depthwise(
            in_channels, stride, first, **linear
        )
        self.branch.pointwise1 = pointwise(in_channels, middle, **active)
        self.branch.depthwise2 = depthwise(middle, dilation=rest, **active)
        self.branch.depthwise3 = depthwise(middle, dilation=rest, **linear)
        self.branch.pointwise3 = pointwise(middle, out_channels, **linear)
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        main = self.branch(x)
        if self.with_shortcut:
            main = main + x
        return self.activate(main)


@MODELS.register_module()
class Xception(StagedBackbone):
    """The light Xception of Light-Head R-CNN (Tables 7 and 8).

    Levels: 0 stage2, 1 stage3 and 2 stage4 at strides 8, 16 and 32.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        out_indices, others: as in `StagedBackbone`.
    """

    family = 'Xception'

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2),
        **staged,
    ):
        width = check_choice('widen_factor', widen_factor, VARIANTS)
        stem, channels = VARIANTS[width]
        super().__init__(('stage2', 'stage3', 'stage4'), out_indices, **staged)
        self.stem = pooled_stem(stem, **self.types)
        unit = partial(XceptionUnit, **self.types)
        self.add_stages(unit, stem, repeated(channels, UNITS), (2, 2, 2))
        self.freeze_stages()
