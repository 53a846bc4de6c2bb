"""The unit ShuffleNet V1 is made of (arXiv 1707.01083, Fig. 2 b and c).

N images, C channels, H x W pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .channel_shuffle import channel_shuffle
from .convolutions import activation, depthwise, pointwise


@dataclass(frozen=True)
class Style:
    """The order of channels within a unit, which weights depend on.

    Attributes:
        shuffle_first: shuffle in front of the depthwise convolution, as in
            Fig. 2, instead of behind it.
        dealt_back: shuffle the other way round, with as many groups as a
            group has channels.
        pooled_first: concatenate the shortcut in front of the main branch.
    """

    shuffle_first: bool
    dealt_back: bool
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
        groups: groups of the first and of the second pointwise convolution.
        style: the order of channels.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
        stride: of the depthwise convolution; 1 where channels do not change.
        dilations: the first one is that of the depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: tuple[int, int],
        style: Style,
        norm_cfg: dict | None,
        act_cfg: dict | None,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        self.downsample = in_channels != out_channels
        middle = out_channels // 4
        added = out_channels - in_channels if self.downsample else out_channels
        self.style = style
        self.shuffle_groups = groups[1]
        if style.dealt_back and groups[1] > 1:
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
