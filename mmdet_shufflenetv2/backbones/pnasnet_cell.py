"""The cell PNASNet-5 is made of (arXiv 1712.00559, Fig. 1).

N images, C channels, H x W pixels.
"""

from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor

from .convolutions import normalisation

# What a block of a cell is applied to: the cell's input, the input of the
# cell before, or the sum of the third block.
INPUT, PREVIOUS, THIRD = 0, 1, 4
# The five blocks of Fig. 1, each the sum of two operations.
CELL = (
    ((PREVIOUS, 'separable5'), (PREVIOUS, 'max3')),
    ((INPUT, 'separable7'), (INPUT, 'max3')),
    ((INPUT, 'separable5'), (INPUT, 'separable3')),
    ((THIRD, 'separable3'), (INPUT, 'max3')),
    ((PREVIOUS, 'separable3'), (INPUT, 'identity')),
)

# A map is read by several operations: nothing may be changed in place.
act_first = partial(
    ConvModule,
    bias=False,
    act_cfg=dict(type='ReLU'),
    inplace=False,
    order=('act', 'conv', 'norm'),
)


def every_other() -> nn.Module:
    """Take every other pixel, for a 1x1 convolution without a stride.

    With a stride, fewer than 16 channels and a channels-last map, its
    backward pass writes where it must not (oneDNN's issue 6035).
    """
    return nn.AvgPool2d(1, stride=2)


def separable(
    in_channels: int,
    channels: int,
    stride: int,
    norm_cfg: dict | None,
    kernel_size: int,
) -> nn.Module:
    """Two depthwise separable convolutions, the first with the stride."""
    layers = []
    for before, step in ((in_channels, stride), (channels, 1)):
        layers += [
            act_first(
                before,
                before,
                kernel_size,
                step,
                kernel_size // 2,
                groups=before,
            ),
            ConvModule(
                before,
                channels,
                1,
                bias=False,
                norm_cfg=norm_cfg,
                act_cfg=None,
            ),
        ]
    return nn.Sequential(*layers)


def max_pool(
    in_channels: int, channels: int, stride: int, norm_cfg: dict | None
) -> nn.Module:
    """A 3x3 max pool, and a projection where channels differ."""
    pool = nn.Sequential(nn.MaxPool2d(3, stride, 1))
    if in_channels != channels:
        pool.append(
            ConvModule(
                in_channels,
                channels,
                1,
                bias=False,
                norm_cfg=norm_cfg,
                act_cfg=None,
            )
        )
    return pool


def identity(
    in_channels: int, channels: int, stride: int, norm_cfg: dict | None
) -> nn.Module:
    """The input, or a projection of every other pixel of it."""
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(
        every_other(), act_first(in_channels, channels, 1, norm_cfg=norm_cfg)
    )


OPERATIONS = {
    'separable3': partial(separable, kernel_size=3),
    'separable5': partial(separable, kernel_size=5),
    'separable7': partial(separable, kernel_size=7),
    'max3': max_pool,
    'identity': identity,
}


class FactorizedReduction(nn.Module):
    """Halve a map; one half of the channels sees it a pixel further on."""

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict | None):
        super().__init__()
        half = channels // 2
        self.pool = every_other()
        self.conv1 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, channels - half, 1, bias=False)
        self.bn = normalisation(norm_cfg, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, channels, ceil(H / 2), ceil(W / 2))."""
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        halves = self.conv1(self.pool(x)), self.conv2(self.pool(shifted))
        return self.bn(torch.cat(halves, 1))


class Cell(nn.Module):
    """The cell of Fig. 1.

    Its state is a cell's input and the input of the cell before, as a tuple.

    Args:
        in_channels: channels of the input.
        previous_channels: channels of the previous input; None in the first
            cell, which has none and takes its own input instead.
        channels: channels of every operation; the output has five times
            these.
        stride: 2 in a cell that halves the map.
        shrink: whether the previous input is twice as large as the input.
        norm_cfg: type of normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        previous_channels: int | None,
        channels: int,
        stride: int,
        shrink: bool,
        norm_cfg: dict | None,
    ):
        super().__init__()
        self.squeeze = act_first(in_channels, channels, 1, norm_cfg=norm_cfg)
        widths = {INPUT: channels, PREVIOUS: channels, THIRD: channels}
        if previous_channels is None:
            self.match = nn.Identity()
            widths[PREVIOUS] = in_channels
        elif shrink:
            self.match = FactorizedReduction(
                previous_channels, channels, norm_cfg
            )
        else:
            self.match = act_first(
                previous_channels, channels, 1, norm_cfg=norm_cfg
            )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                OPERATIONS[operation](
                    widths[source],
                    channels,
                    1 if source == THIRD else stride,
                    norm_cfg,
                )
                for source, operation in block
            )
            for block in CELL
        )

    def forward(
        self, state: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The cell's output, and its input for the cell after it."""
        x, previous = state if isinstance(state, tuple) else (state, state)
        maps = [self.squeeze(x), self.match(previous)]
        for sources, operations in zip(CELL, self.blocks, strict=True):
            left, right = (
                operation(maps[source])
                for (source, _), operation in zip(
                    sources, operations, strict=True
                )
            )
            maps.append(left + right)
        return torch.cat(maps[2:], 1), x
