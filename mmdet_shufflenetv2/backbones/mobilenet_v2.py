"""MobileNet V2, built from mmdet's blocks; equal to mmdet's from 1.0 on.

Paper: "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381.
Original code: https://github.com/tensorflow/models (Apache-2.0).
"""

import math
from collections.abc import Sequence

import torch.nn as nn
from mmdet.models.layers import InvertedResidual
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone, repeated
from .layers import image_conv, pointwise

WIDTHS = (0.15, 0.4, 0.6, 0.75, 1.0, 1.4)
ACT_CFG = dict(type='ReLU6', inplace=True)
STEM = 32
EXPANSION = 6
# Of each layer (Table 2).
CHANNELS = (16, 24, 32, 64, 96, 160, 320)
BLOCKS = (1, 2, 3, 4, 3, 3, 1)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
LAST = 1280


def scaled(channels: int, width: float) -> int:
    """Scale a layer's channels by a width.

    From 1.0 on rounds to a multiple of 8, as the original code and mmdet do.
    Smaller widths round up and keep the first layer's 16 channels, which
    matches Table 8 of arXiv 1807.11164 (docs/decisions.md).
    """
    if width >= 1:
        return make_divisible(channels * width, 8)
    return 16 if channels == 16 else math.ceil(round(channels * width, 6))


@MODELS.register_module()
class StagedMobileNetV2(StagedBackbone):
    """MobileNet V2 as a `StagedBackbone`.

    Levels are mmdet's: 0 layer1 to 6 layer7 and 7 conv2, at strides 2, 4, 8,
    16, 16, 32, 32 and 32.

    Args:
        widen_factor: 0.15, 0.4, 0.6, 0.75, 1.0 or 1.4; from 1.0 on the
            channels are mmdet's.
        out_indices, others: as in `StagedBackbone`.
    """

    family = 'MobileNetV2'
    stem_names = ('conv1',)

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (1, 2, 4, 7),
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        width = check_choice('widen_factor', widen_factor, WIDTHS)
        layers = [f'layer{i + 1}' for i in range(len(CHANNELS))]
        super().__init__(
            (*layers, 'conv2'), out_indices, act_cfg=act_cfg, **staged
        )
        stem = scaled(STEM, width)
        self.conv1 = image_conv(stem, **self.types)
        widths = repeated([scaled(c, width) for c in CHANNELS], BLOCKS)
        channels, reduction = self.add_stages(
            self.unit, stem, widths, STRIDES, reduction=2
        )
        if 'conv2' in self.stage_names:
            last = int(LAST * max(width, 1))
            conv2 = pointwise(channels, last, **self.types)
            self.add_stage('conv2', conv2, last, reduction)
        self.freeze_stages()

    def unit(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        dilations: tuple[int, int],
    ) -> nn.Module:
        """An inverted residual; the very first one has no expansion."""
        expands = hasattr(self, 'layer1')
        unit = InvertedResidual(
            in_channels,
            out_channels,
            in_channels * (EXPANSION if expands else 1),
            stride=stride,
            with_expand_conv=expands,
            **self.types,
        )
        conv = unit.depthwise_conv.conv
        conv.dilation = conv.padding = (dilations[0],) * 2
        return unit
