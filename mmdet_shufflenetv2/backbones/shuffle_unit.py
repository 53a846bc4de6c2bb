"""The unit ShuffleNet V2 is made of (arXiv 1807.11164, Fig. 3 c and d).

N images, C channels, H x W pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from torch import Tensor

from .channel_shuffle import deal, interleave
from .convolutions import activation, depthwise, pointwise


@dataclass(frozen=True)
class UnitOptions:
    """What all units of one network have in common.

    Attributes:
        shuffle_first: shuffle where a unit begins, as the authors' code
            does, instead of where it ends; where channels change, the first
            branch then keeps its input's and the second one adds the rest,
            instead of half of the output each.
        enlarged: the extra depthwise convolution of V2*.
        with_se: squeeze and excitation at the end of the main branch.
        with_residual: the main branch adds its input where sizes agree.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
    """

    shuffle_first: bool
    enlarged: bool
    with_se: bool
    with_residual: bool
    norm_cfg: dict
    act_cfg: dict | None


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the whole map.

    (arXiv 1709.01507) The hidden layer is as wide as the input: half of a
    unit's channels, as Table 2 of the appendix asks for.

    Args:
        channels: channels of the map.
        act_cfg: activation of the hidden layer.
    """

    def __init__(self, channels: int, act_cfg: dict | None):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvModule(channels, channels, 1, act_cfg=act_cfg),
            ConvModule(channels, channels, 1, act_cfg=dict(type='Sigmoid')),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ShuffleUnit(nn.Module):
    """A unit of Fig. 3 (c), or (d) where the number of channels changes.

    The latter transforms both branches instead of passing half through.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        options: what all units of the network have in common.
        stride: of the depthwise convolutions; 1 where channels do not change.
        dilations: the first one is that of the 3x3 depthwise convolutions,
            none of which comes behind the stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        options: UnitOptions,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        self.downsample = downsample = in_channels != out_channels
        self.shuffle_first = options.shuffle_first
        self.with_residual = options.with_residual and not downsample
        norm_cfg, act_cfg = options.norm_cfg, options.act_cfg
        middle = out_channels // 2
        passed = middle
        if downsample and self.shuffle_first:
            passed = in_channels
        main_in = in_channels if downsample else middle
        main_out = out_channels - passed

        spatial = dict(norm_cfg=norm_cfg, dilation=dilations[0])
        if downsample:
            self.branch1 = nn.Sequential()
            self.branch1.depthwise = depthwise(
                main_in, stride=stride, **spatial
            )
            self.branch1.pointwise = pointwise(
                main_in, passed, norm_cfg, act_cfg
            )
        self.branch2 = nn.Sequential()
        if options.enlarged:
            self.branch2.enlarge = depthwise(main_in, **spatial)
        self.branch2.pointwise1 = pointwise(main_in, middle, norm_cfg, act_cfg)
        self.branch2.depthwise = depthwise(middle, stride=stride, **spatial)
        self.branch2.pointwise2 = pointwise(middle, main_out, norm_cfg, None)
        if options.with_se:
            self.branch2.se = SqueezeExcite(main_out, act_cfg)
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if self.downsample:
            passed = self.branch1(x)
        elif self.shuffle_first:
            passed, x = deal(x)
        else:
            passed, x = x.chunk(2, dim=1)
        main = self.branch2(x)
        if self.with_residual:
            main = main + x
        main = self.activate(main)
        if self.shuffle_first:
            return torch.cat((passed, main), 1)
        return interleave(passed, main)
