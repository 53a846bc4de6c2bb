"""The convolutions that light networks are made of, with norm and activation.

N images, C channels, H x W pixels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn as nn
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer

NORM_CFG = dict(type='BN')
ACT_CFG = dict(type='ReLU', inplace=True)


def activation(act_cfg: dict | None) -> nn.Module:
    """An activation that stands alone; None for none."""
    return build_activation_layer(act_cfg) if act_cfg else nn.Identity()


def normalisation(norm_cfg: dict | None, channels: int) -> nn.Module:
    """A normalisation that stands alone; None for none."""
    return (
        build_norm_layer(norm_cfg, channels)[1] if norm_cfg else nn.Identity()
    )


def pointwise(
    in_channels: int,
    out_channels: int,
    norm_cfg: dict | None,
    act_cfg: dict | None,
    groups: int = 1,
) -> ConvModule:
    """A 1x1 convolution."""
    return ConvModule(
        in_channels,
        out_channels,
        1,
        groups=groups,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    )


def depthwise(
    channels: int,
    norm_cfg: dict | None,
    act_cfg: dict | None = None,
    stride: int = 1,
    dilation: int = 1,
) -> ConvModule:
    """A 3x3 convolution of each channel by itself."""
    return ConvModule(
        channels,
        channels,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=channels,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    )


def image_stem(
    channels: Sequence[int],
    norm_cfg: dict | None,
    act_cfg: dict | None,
    with_pool: bool = True,
) -> nn.Sequential:
    """3x3 convolutions of the image, the first with stride 2, and a max pool.

    Args:
        channels: output channels of each convolution.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
        with_pool: end in a 3x3 max pool with stride 2.
    """
    stem = nn.Sequential()
    for index, (before, after) in enumerate(pairwise((3, *channels)), start=1):
        conv = ConvModule(
            before,
            after,
            3,
            stride=2 if index == 1 else 1,
            padding=1,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        stem.add_module(f'conv{index}', conv)
    if with_pool:
        stem.add_module('maxpool', nn.MaxPool2d(3, stride=2, padding=1))
    return stem
