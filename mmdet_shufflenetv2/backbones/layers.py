"""Layers shared by several backbone families.

Shapes: N images, C channels, H x W pixels.
"""

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

NORM_CFG = dict(type='BN')
ACT_CFG = dict(type='ReLU', inplace=True)


def activation(act_cfg: dict | None) -> nn.Module:
    """Build an activation; the identity for None."""
    return build_activation_layer(act_cfg) if act_cfg else nn.Identity()


def normalisation(norm_cfg: dict | None, channels: int) -> nn.Module:
    """Build a normalisation layer; the identity for None."""
    if norm_cfg:
        return build_norm_layer(norm_cfg, channels)[1]
    return nn.Identity()


class FoldedSequential(nn.Sequential):
    """A sequence that folds frozen BN into convolutions during training.

    Folding saves a pass over memory, and one of the two maps that are kept
    for the backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if layers and _can_be_folded(layer, layers[0]):
                norm = layers.pop(0)
                scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
                weight = layer.weight * scale[:, None, None, None]
                shift = norm.bias - norm.running_mean * scale
                x = layer._conv_forward(x, weight, shift)
            else:
                x = layer(x)
        return x


def _can_be_folded(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm is frozen and neither layer has hooks."""
    return (
        type(conv) is nn.Conv2d
        and isinstance(norm, _BatchNorm)
        and not norm.training
        and norm.affine
        and norm.track_running_stats
        and conv.bias is None
        and not any(
            m._forward_hooks or m._forward_pre_hooks for m in (conv, norm)
        )
    )


def pointwise(
    in_channels: int, out_channels: int, groups: int = 1, **types: dict | None
) -> ConvModule:
    """A 1x1 convolution; ``types`` are norm_cfg and act_cfg."""
    return ConvModule(in_channels, out_channels, 1, groups=groups, **types)


def depthwise(
    channels: int, stride: int = 1, dilation: int = 1, **types: dict | None
) -> ConvModule:
    """A 3x3 depthwise convolution."""
    places = dict(stride=stride, padding=dilation, dilation=dilation)
    return ConvModule(
        channels, channels, 3, groups=channels, **places, **types
    )


def image_conv(channels: int, **types: dict | None) -> ConvModule:
    """The first layer: a 3x3 convolution of the image with stride 2."""
    return ConvModule(3, channels, 3, stride=2, padding=1, **types)


def pooled_stem(channels: int, **types: dict | None) -> nn.Sequential:
    """The first layer and a 3x3 max pool: stride 4 in total."""
    stem = nn.Sequential()
    stem.conv1 = image_conv(channels, **types)
    stem.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
    return stem


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Shuffle channels across groups (arXiv 1707.01083, Fig. 1).

    Channel ``g * C / groups + i`` moves to channel ``i * groups + g``. Keeps
    the memory layout, so that no later layer has to convert it.
    """
    if groups == 1:
        return x
    if not _is_channels_last(x):
        return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    x = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1))
    return x.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Concatenate two halves (N, C / 2, H, W) and shuffle them.

    Equal to ``channel_shuffle(torch.cat((even, odd), 1), groups=2)``, but in
    one pass over memory. Keeps the memory layout of ``odd``.
    """
    if not _is_channels_last(odd):
        return torch.stack((even, odd), 2).flatten(1, 2)
    if torch.jit.is_tracing():
        return _interleave_channels_last(even, odd)
    return _InterleaveChannelsLast.apply(even, odd)


def split_even_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split into even and odd channels, as views (N, C / 2, H, W)."""
    if not _is_channels_last(x):
        return x.unflatten(1, (-1, 2)).unbind(2)
    # The same views, but their gradient is channels-last.
    even, odd = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2)).unbind(4)
    return even.permute(0, 3, 1, 2), odd.permute(0, 3, 1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(
        memory_format=torch.channels_last
    )


def _interleave_channels_last(even: Tensor, odd: Tensor) -> Tensor:
    halves = (even.permute(0, 2, 3, 1), odd.permute(0, 2, 3, 1))
    return torch.stack(halves, -1).flatten(3).permute(0, 3, 1, 2)


class _InterleaveChannelsLast(torch.autograd.Function):
    """`interleave` with dense gradients.

    The gradients of ``stack`` are views, on which channels-last kernels were
    up to 11 times slower than on copies (docs/decisions.md).
    """

    @staticmethod
    def forward(ctx, even: Tensor, odd: Tensor) -> Tensor:
        return _interleave_channels_last(even, odd)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            half.contiguous(memory_format=torch.channels_last)
            for half in split_even_odd(gradient)
        )
