"""MobileNet V1.

Paper: "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", https://arxiv.org/abs/1704.04861.
Original code: https://github.com/tensorflow/models (Apache-2.0), whose
strided convolutions pad one side only; these pad both, as PyTorch's networks
do. Written from the paper's Table 1; equal to pytorchcv's networks.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import ACT_CFG, NORM_CFG, depthwise, image_conv, pointwise

# Published widths; each scales all channels (section 3.3).
WIDTHS = (0.25, 0.5, 0.75, 1.0)
STEM = 32
# Output channels of each unit, per stage, and the stride of its first one.
CHANNELS = ((64,), (128,) * 2, (256,) * 2, (512,) * 6, (1024,) * 2)
STRIDES = (1, 2, 2, 2, 2)


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet V1: depthwise separable convolutions in a row.

    Levels: 0 stage1, 1 stage2, 2 stage3, 3 stage4 and 4 stage5 at strides
    2, 4, 8, 16 and 32.

    Args:
        widen_factor: 0.25, 0.5, 0.75 or 1.0.
        out_indices: levels to return, ascending. Nothing after the last one
            is built.
        others: as in `StagedBackbone`.
    """

    family = 'MobileNetV1'
    widths = WIDTHS
    # Of the stem, and of the units of each stage.
    channels = ((STEM,), *CHANNELS)

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        widen_factor = check_choice('widen_factor', widen_factor, self.widths)
        stages = [f'stage{i + 1}' for i in range(len(CHANNELS))]
        super().__init__(stages, out_indices, **staged)
        (channels,), *widths = (
            [int(width * widen_factor) for width in stage]
            for stage in self.channels
        )
        self.stem = nn.Sequential()
        self.stem.conv1 = image_conv(channels, norm_cfg, act_cfg)
        self.add_stages(
            partial(self.unit, norm_cfg=norm_cfg, act_cfg=act_cfg),
            channels,
            widths,
            (strides, STRIDES),
            dilations,
            reduction=2,
        )
        self.freeze_stages()

    def unit(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        dilations: tuple[int, int],
        norm_cfg: dict | None,
        act_cfg: dict | None,
    ) -> nn.Module:
        """A depthwise separable convolution, activated after either half."""
        unit = nn.Sequential()
        unit.depthwise = depthwise(
            in_channels, norm_cfg, act_cfg, stride, dilations[0]
        )
        unit.pointwise = pointwise(
            in_channels, out_channels, norm_cfg, act_cfg
        )
        return unit
