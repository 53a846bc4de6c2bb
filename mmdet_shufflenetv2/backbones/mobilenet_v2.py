"""MobileNet V2: mmdet's network with what this package's backbones have more.

Paper: "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381.
Original code: https://github.com/tensorflow/models (Apache-2.0). The table
of layers and the blocks are those of mmdet's ``MobileNetV2`` (Apache-2.0).
"""

import math
from collections.abc import Sequence

from mmdet.models.backbones import MobileNetV2
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import image_conv, pointwise

WIDTHS = (0.15, 0.4, 0.6, 0.75, 1.0, 1.4)
ACT_CFG = dict(type='ReLU6', inplace=True)
STEM = 32
LAST = 1280


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at a width.

    From 1.0 on a multiple of 8, as the original code and mmdet do it. For the
    narrow ones plainly rounded channels after a first layer of 16 were chosen
    to meet Table 8 of arXiv 1807.11164 (docs/decisions.md).
    """
    if width >= 1:
        return make_divisible(channels * width, 8)
    return 16 if channels == 16 else math.ceil(round(channels * width, 6))


@MODELS.register_module()
class StagedMobileNetV2(StagedBackbone, MobileNetV2):
    """mmdet's MobileNet V2 as a `StagedBackbone`.

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
        layers = [f'layer{i + 1}' for i in range(len(self.arch_settings))]
        super().__init__(
            (*layers, 'conv2'), out_indices, act_cfg=act_cfg, **staged
        )
        # What mmdet's `make_layer` reads besides.
        self.conv_cfg, self.in_channels = None, scaled(STEM, width)
        self.conv1 = image_conv(self.in_channels, **self.types)
        own = [stride for *_, stride in self.arch_settings]
        steps = self.strides_and_dilations(own)
        reduction, before = 2, 1
        # Ends with the last layer asked for.
        for name, (ratio, channels, blocks, _), (stride, dilation) in zip(
            self.stage_names, self.arch_settings, steps, strict=False
        ):
            layer = self.make_layer(
                scaled(channels, width), blocks, stride, ratio
            )
            for index, block in enumerate(layer):
                conv = block.depthwise_conv.conv
                each = before if index == 0 else dilation
                conv.dilation = conv.padding = (each, each)
                # The base class does that.
                block.with_cp = False
            reduction *= stride
            before = dilation
            self.add_stage(name, list(layer), self.in_channels, reduction)
        if 'conv2' in self.stage_names:
            last = int(LAST * max(width, 1))
            conv2 = pointwise(self.in_channels, last, **self.types)
            self.add_stage('conv2', conv2, last, reduction)
        self.freeze_stages()
