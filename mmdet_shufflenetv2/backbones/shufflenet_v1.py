"""ShuffleNet V1.

Paper: "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", https://arxiv.org/abs/1707.01083.
Original code: https://github.com/megvii-model/ShuffleNet-Series (MIT).
Written from the paper. What the paper leaves open, the order of channels in
a concatenation, and where and how channels are shuffled, is a ``style``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import (
    ACT_CFG,
    NORM_CFG,
    activation,
    channel_shuffle,
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
        units: units per stage.
        strides: stride of each stage's first unit.
        first_groups: groups of the very first unit's two pointwise
            convolutions; None means 1 and as everywhere.
    """

    stem: int
    channels: tuple[int, ...]
    units: tuple[int, ...] = (4, 8, 4)
    strides: tuple[int, ...] = (2, 2, 2)
    first_groups: tuple[int, int] | None = None


# (arch, groups, widen_factor) -> network. Widths of 1.0: Table 1 of the V1
# paper. Others: the authors' code, which has them for 3 and 8 groups and
# rounds the stem its own way; stages of 0.5 with 2 or 4 groups would not
# divide.
# 'v1_50': Table 2 of the V2 paper's appendix. Its first stage concatenates
# 296 channels to the 64 of the stem, which 3 groups do not divide, so that
# unit is not grouped. What the paper leaves open for a first unit at stride 1
# is taken from Fig. 2 (c): a 3x3 average pool on the shortcut.
VARIANTS = {
    ('v1', 1, 1.0): Variant(24, (144, 288, 576)),
    ('v1', 2, 1.0): Variant(24, (200, 400, 800)),
    ('v1', 3, 0.5): Variant(12, (120, 240, 480)),
    ('v1', 3, 1.0): Variant(24, (240, 480, 960)),
    ('v1', 3, 1.5): Variant(24, (360, 720, 1440)),
    ('v1', 3, 2.0): Variant(48, (480, 960, 1920)),
    ('v1', 4, 1.0): Variant(24, (272, 544, 1088)),
    ('v1', 8, 0.5): Variant(16, (192, 384, 768)),
    ('v1', 8, 1.0): Variant(24, (384, 768, 1536)),
    ('v1', 8, 1.5): Variant(24, (576, 1152, 2304)),
    ('v1', 8, 2.0): Variant(48, (768, 1536, 3072)),
    ('v1_50', 3, 1.0): Variant(
        stem=64,
        channels=(360, 720, 1440, 2880),
        units=(3, 4, 6, 3),
        strides=(1, 2, 2, 2),
        first_groups=(1, 1),
    ),
}


@dataclass(frozen=True)
class Style:
    """The order of channels within a unit, which weights depend on.

    Attributes:
        shuffle_first: shuffle in front of the depthwise convolution, as in
            Fig. 2, instead of after it.
        reversed: shuffle the other way round, with as many groups as a
            group has channels.
        pooled_first: concatenate the shortcut in front of the main branch.
    """

    shuffle_first: bool
    reversed: bool
    pooled_first: bool


STYLES = {
    # As pytorchcv reads the paper.
    'paper': Style(True, False, False),
    'authors': Style(False, True, True),
    'mmpretrain': Style(False, False, True),
}


class MeanPool(nn.Module):
    """Mean of 3x3 pixels, zeros around the map; may be dilated."""

    def __init__(self, channels: int, stride: int, dilation: int):
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        if self.dilation == 1:
            return F.avg_pool2d(x, 3, self.stride, padding=1)
        kernel = x.new_full((self.channels, 1, 3, 3), 1 / 9)
        return F.conv2d(
            x,
            kernel,
            stride=self.stride,
            padding=self.dilation,
            dilation=self.dilation,
            groups=self.channels,
        )


class ShuffleUnitV1(nn.Module):
    """A unit of Fig. 2 (b), or (c) where the number of channels changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the depthwise convolution; 1 where channels do not change.
        dilations: the first one is that of the depthwise convolution and of
            the pool.
        groups: groups of the first and of the second pointwise convolution.
        style: the order of channels.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        *,
        groups: tuple[int, int],
        style: Style,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
    ):
        super().__init__()
        self.downsample = in_channels != out_channels
        middle = out_channels // 4
        added = out_channels - in_channels if self.downsample else out_channels
        self.style = style
        self.shuffle_groups = groups[1]
        if style.reversed and groups[1] > 1:
            self.shuffle_groups = middle // groups[1]
        if self.downsample:
            self.pool = MeanPool(in_channels, stride, dilations[0])
        self.compress = pointwise(
            in_channels, middle, norm_cfg, act_cfg, groups[0]
        )
        self.depthwise = depthwise(
            middle, norm_cfg, stride=stride, dilation=dilations[0]
        )
        self.expand = pointwise(middle, added, norm_cfg, None, groups[1])
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        main = self.compress(x)
        if self.style.shuffle_first:
            main = channel_shuffle(main, self.shuffle_groups)
        main = self.depthwise(main)
        if not self.style.shuffle_first:
            main = channel_shuffle(main, self.shuffle_groups)
        main = self.expand(main)
        if not self.downsample:
            return self.activate(x + main)
        halves = (self.pool(x), main)
        if not self.style.pooled_first:
            halves = halves[::-1]
        return self.activate(torch.cat(halves, 1))


@MODELS.register_module()
class ShuffleNetV1(StagedBackbone):
    """ShuffleNet V1 and the 50-layer network of the V2 paper.

    Levels: 0 stage2, 1 stage3 and 2 stage4 at strides 8, 16 and 32; with
    ``arch='v1_50'`` 0 stage1, 1 stage2, 2 stage3 and 3 stage4 from stride 4.

    Args:
        widen_factor: 1.0, and 0.5, 1.5 and 2.0 with 3 or 8 groups.
        groups: groups of the pointwise convolutions: 1, 2, 3, 4 or 8.
        out_indices: levels to return, ascending; None means all stages.
            Nothing after the last one is built.
        arch: ``'v1'`` or ``'v1_50'``, which has 3 groups.
        style: ``'paper'``, ``'authors'`` or ``'mmpretrain'``: whose order of
            channels, and so whose pretrained weights fit. ``'paper'`` equals
            pytorchcv's networks.
        others: as in `StagedBackbone`.
    """

    family = 'ShuffleNetV1'
    styles = tuple(STYLES)

    def __init__(
        self,
        widen_factor: float = 1.0,
        groups: int = 3,
        out_indices: Sequence[int] | None = None,
        arch: str = 'v1',
        style: str = 'paper',
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        arch, groups, width = _checked(arch, groups, widen_factor)
        variant = VARIANTS[arch, groups, width]
        check_choice('style', style, STYLES)
        count = len(variant.units)
        # The paper calls the stage of stride 8 stage2.
        stages = [f'stage{5 - count + i}' for i in range(count)]
        super().__init__(stages, out_indices, **staged)
        self.style = style
        self.stem = pooled_stem(variant.stem, norm_cfg, act_cfg)

        def unit(in_channels: int, *args) -> nn.Module:
            both = (groups, groups)
            if in_channels == variant.stem:
                # Few channels, which the paper does not group (section 3.3).
                both = variant.first_groups or (1, groups)
            return ShuffleUnitV1(
                in_channels,
                *args,
                groups=both,
                style=STYLES[style],
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )

        widths = [
            [width] * units
            for width, units in zip(
                variant.channels, variant.units, strict=True
            )
        ]
        self.add_stages(
            unit,
            variant.stem,
            widths,
            (strides, variant.strides),
            dilations,
        )
        self.freeze_stages()


def _checked(
    arch: str, groups: int, widen_factor: float
) -> tuple[str, int, float]:
    """The key of `VARIANTS` that the arguments are."""

    def having(*known: object) -> list:
        """Values of the next part of the keys that begin with those."""
        rows = [key for key in VARIANTS if key[: len(known)] == known]
        return list(dict.fromkeys(key[len(known)] for key in rows))

    arch = check_choice('arch', arch, having())
    groups = check_choice(f'groups of arch {arch!r}', groups, having(arch))
    width = check_choice(
        f'widen_factor of arch {arch!r} with groups={groups}',
        widen_factor,
        having(arch, groups),
    )
    return arch, groups, width
