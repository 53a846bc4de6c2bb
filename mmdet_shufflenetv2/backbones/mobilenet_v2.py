"""MobileNet V2: mmdet's network with what this package's backbones have more.

Paper: "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381.
Original code: https://github.com/tensorflow/models (Apache-2.0). The table
of layers and the blocks are those of mmdet's ``MobileNetV2`` (Apache-2.0).
"""

import math
from collections.abc import Callable, Sequence

from mmdet.models.backbones import MobileNetV2
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone, per_stage
from .layers import NORM_CFG, image_conv, pointwise

ACT_CFG = dict(type='ReLU6', inplace=True)
STEM = 32
LAST = 1280


def _to_eighths(width: float) -> Callable[[int], int]:
    """Channels to a multiple of 8, as the original code and mmdet do it."""
    return lambda channels: make_divisible(channels * width, 8)


def _from_16(width: float) -> Callable[[int], int]:
    """Channels rounded up; the first layer's 16 stay."""
    return lambda channels: (
        16 if channels == 16 else math.ceil(round(channels * width, 6))
    )


# widen_factor -> rounding of channels. The last convolution never has less
# than 1280. Table 8 of arXiv 1807.11164 states 39, 43, 141 and 145 million
# multiply-adds for the narrow ones, the last at 192x192, the second at
# 160x160. Multiples of 8 give 30.6, 41.8, 151.0 and 153.9; chosen to meet
# the table were plainly rounded channels after a first layer of 16, which
# give 38.3, 43.6, 141.7 and 140.7. The paper says nothing on either.
ROUNDINGS = {
    0.15: _from_16,
    0.4: _from_16,
    0.6: _from_16,
    0.75: _from_16,
    1.0: _to_eighths,
    1.4: _to_eighths,
}


@MODELS.register_module()
class StagedMobileNetV2(StagedBackbone, MobileNetV2):
    """mmdet's MobileNet V2 as a `StagedBackbone`.

    It freezes the stem with its BN, keeps SyncBN in evaluation mode too,
    states its ``feature_info``, checks its arguments, builds no layer that
    is not needed, and can be dilated. Levels are mmdet's: 0 layer1 to
    6 layer7 and 7 conv2, at strides 2, 4, 8, 16, 16, 32, 32 and 32.

    Args:
        widen_factor: 0.15, 0.4, 0.6, 0.75, 1.0 or 1.4; from 1.0 on the
            channels are mmdet's.
        out_indices: levels to return, ascending. Nothing after the last one
            is built.
        others: as in `StagedBackbone`.
    """

    family = 'MobileNetV2'
    stem_names = ('conv1',)

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (1, 2, 4, 7),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        widen_factor = check_choice('widen_factor', widen_factor, ROUNDINGS)
        rounded = ROUNDINGS[widen_factor](widen_factor)
        layers = [f'layer{i + 1}' for i in range(len(self.arch_settings))]
        super().__init__((*layers, 'conv2'), out_indices, **staged)
        # What mmdet's `make_layer` reads, besides `with_cp`.
        self.conv_cfg, self.norm_cfg, self.act_cfg = None, norm_cfg, act_cfg
        self.in_channels = rounded(STEM)
        self.conv1 = image_conv(self.in_channels, norm_cfg, act_cfg)
        own_strides = [stride for *_, stride in self.arch_settings]
        reduction, last_dilation = 2, 1
        # Ends with the last layer asked for.
        for name, (ratio, channels, blocks, _), stride, dilation in zip(
            self.stage_names,
            self.arch_settings,
            per_stage('strides', strides, own_strides, (1, 2)),
            per_stage('dilations', dilations, (1,) * len(layers)),
            strict=False,
        ):
            layer = self.make_layer(rounded(channels), blocks, stride, ratio)
            for index, block in enumerate(layer):
                conv = block.depthwise_conv.conv
                each = last_dilation if index == 0 else dilation
                conv.dilation = conv.padding = (each, each)
                # The base class does that.
                block.with_cp = False
            reduction *= stride
            last_dilation = dilation
            self.add_stage(name, list(layer), self.in_channels, reduction)
        if 'conv2' in self.stage_names:
            last = int(LAST * max(widen_factor, 1))
            conv2 = pointwise(self.in_channels, last, norm_cfg, act_cfg)
            self.add_stage('conv2', conv2, last, reduction)
        self.freeze_stages()
