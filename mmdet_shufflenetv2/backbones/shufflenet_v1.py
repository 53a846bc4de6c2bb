"""ShuffleNet V1.

Paper: "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", https://arxiv.org/abs/1707.01083.
Original code: https://github.com/megvii-model/ShuffleNet-Series (MIT).
Written from the paper. ``style`` selects what the paper leaves open: the
order of concatenated channels, and where and how channels are shuffled.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice, check_row
from .base import StagedBackbone, repeated
from .layers import (
    ACT_CFG,
    NORM_CFG,
    activation,
    channel_shuffle,
    depthwise,
    pointwise,
    pooled_stem,
)

# (arch, groups, widen_factor) -> output channels of the stem, and of each
# stage; units have a quarter of them inside. Width 1.0: Table 1 of the V1
# paper. Other widths: the authors' code, which has 3 and 8 groups only and its
# own rounding of the stem; at 0.5, 2 or 4 groups would not divide the stages.
# 'v1_50': Table 2 of the V2 paper's appendix. Its first unit adds 296
# channels, which 3 groups do not divide, so it is not grouped.
VARIANTS = {
    ('v1', 1, 1.0): (24, (144, 288, 576)),
    ('v1', 2, 1.0): (24, (200, 400, 800)),
    ('v1', 3, 0.5): (12, (120, 240, 480)),
    ('v1', 3, 1.0): (24, (240, 480, 960)),
    ('v1', 3, 1.5): (24, (360, 720, 1440)),
    ('v1', 3, 2.0): (48, (480, 960, 1920)),
    ('v1', 4, 1.0): (24, (272, 544, 1088)),
    ('v1', 8, 0.5): (16, (192, 384, 768)),
    ('v1', 8, 1.0): (24, (384, 768, 1536)),
    ('v1', 8, 1.5): (24, (576, 1152, 2304)),
    ('v1', 8, 2.0): (48, (768, 1536, 3072)),
    ('v1_50', 3, 1.0): (64, (360, 720, 1440, 2880)),
}
# Units per stage.
UNITS = {'v1': (4, 8, 4), 'v1_50': (3, 4, 6, 3)}
# Whose order of channels to use. 'paper', as pytorchcv reads the paper,
# shuffles before the depthwise convolution and concatenates the shortcut last.
# The others shuffle after it and put the shortcut first; 'authors' shuffles
# with as many groups as a group has channels.
STYLES = ('paper', 'authors', 'mmpretrain')


class MeanPool(nn.AvgPool2d):
    """3x3 average pooling with zero padding and optional dilation."""

    def __init__(self, stride: int, dilation: int):
        super().__init__(3, stride, padding=1)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        if self.dilation == 1:
            return super().forward(x)
        channels, places = x.shape[1], (self.stride, *[self.dilation] * 2)
        kernels = x.new_full((channels, 1, 3, 3), 1 / 9)
        return F.conv2d(x, kernels, None, *places, groups=channels)


class ShuffleUnitV1(nn.Module):
    """The unit of Fig. 2 (b), or (c) if the number of channels changes.

    Args:
        in_channels, out_channels: channels of the input and the output.
        stride: of the depthwise convolution; 1 for unit (b).
        dilations: see `StagedBackbone.add_stages`; the first applies to the
            depthwise convolution and the pooling.
        groups: of the first and the second pointwise convolution.
        others: as in `ShuffleNetV1`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        *,
        groups: tuple[int, int],
        style: str = 'paper',
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
    ):
        super().__init__()
        self.downsample = in_channels != out_channels
        middle = out_channels // 4
        added = out_channels - in_channels if self.downsample else out_channels
        self.as_in_paper = style == 'paper'
        self.shuffle_groups = groups[1]
        if style == 'authors' and groups[1] > 1:
            self.shuffle_groups = middle // groups[1]
        if self.downsample:
            self.pool = MeanPool(stride, dilations[0])
        linear = dict(norm_cfg=norm_cfg, act_cfg=None)
        self.compress = pointwise(
            in_channels, middle, groups[0], norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.depthwise = depthwise(middle, stride, dilations[0], **linear)
        self.expand = pointwise(middle, added, groups[1], **linear)
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        main = self.compress(x)
        if self.as_in_paper:
            main = self.depthwise(channel_shuffle(main, self.shuffle_groups))
        else:
            main = channel_shuffle(self.depthwise(main), self.shuffle_groups)
        main = self.expand(main)
        if not self.downsample:
            return self.activate(x + main)
        halves = (self.pool(x), main)
        order = -1 if self.as_in_paper else 1
        return self.activate(torch.cat(halves[::order], 1))


@MODELS.register_module()
class ShuffleNetV1(StagedBackbone):
    """ShuffleNet V1 and the 50-layer network of the V2 paper.

    Levels: 0 stage2, 1 stage3 and 2 stage4 at strides 8, 16 and 32; with
    ``arch='v1_50'`` 0 stage1, 1 stage2, 2 stage3 and 3 stage4 from stride 4.

    Args:
        widen_factor: 1.0, and 0.5, 1.5 and 2.0 with 3 or 8 groups.
        groups: groups of the pointwise convolutions: 1, 2, 3, 4 or 8.
        arch: ``'v1'`` or ``'v1_50'``, which has 3 groups.
        style: ``'paper'``, ``'authors'`` or ``'mmpretrain'``: whose order of
            channels to use, and so whose pretrained weights fit. ``'paper'``
            equals pytorchcv's networks.
        out_indices, others: as in `StagedBackbone`.
    """

    family = 'ShuffleNetV1'
    styles = STYLES

    def __init__(
        self,
        widen_factor: float = 1.0,
        groups: int = 3,
        out_indices: Sequence[int] | None = None,
        arch: str = 'v1',
        style: str = 'paper',
        **staged,
    ):
        stem, channels = check_row(
            VARIANTS, arch=arch, groups=groups, widen_factor=widen_factor
        )
        check_choice('style', style, STYLES)
        count = len(channels)
        # In the paper, stage2 is the stage of stride 8.
        stages = [f'stage{5 - count + i}' for i in range(count)]
        super().__init__(stages, out_indices, **staged)
        self.style = style
        self.stem = pooled_stem(stem, **self.types)

        def unit(in_channels: int, *args) -> nn.Module:
            both = (groups, groups)
            if in_channels == stem:
                # The paper does not group so few channels (section 3.3).
                both = (1, 1 if arch == 'v1_50' else groups)
            return ShuffleUnitV1(
                in_channels, *args, groups=both, style=style, **self.types
            )

        widths = repeated(channels, UNITS[arch])
        self.add_stages(unit, stem, widths, (1, 2, 2, 2)[-count:])
        self.freeze_stages()
