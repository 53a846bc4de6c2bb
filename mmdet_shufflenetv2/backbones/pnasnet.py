"""PNASNet-5.

Paper: "Progressive Neural Architecture Search",
https://arxiv.org/abs/1712.00559, Fig. 1 and section 5.2.
Original code: https://github.com/tensorflow/models, research/slim/nets/nasnet
(Apache 2.0), consulted for what the paper leaves open: what a cell does to
its inputs, and the channels of the first layers.
Written from the paper. Strided layers are padded evenly, as in the other
families, so that images may have any size; the original leaves the first
layer unpadded and pads the others as TensorFlow does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone, per_stage
from .layers import normalisation


@dataclass(frozen=True)
class Variant:
    """One network of section 5.2.

    Attributes:
        stem: output channels of the first convolution.
        cells: cells of each size; N in the paper.
        filters: channels of an operation in stage2; F in the paper.
    """

    stem: int
    cells: int
    filters: int


VARIANTS = {'mobile': Variant(32, 3, 54), 'large': Variant(96, 4, 216)}
NORM_CFG = dict(type='BN', eps=1e-3)
STAGES = ('stage1', 'stage2', 'stage3', 'stage4')


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


@MODELS.register_module()
class PNASNet(StagedBackbone):
    """PNASNet-5.

    Levels: 0 stage1, 1 stage2, 2 stage3 and 3 stage4, at strides 4, 8, 16
    and 32, each after the activation that the next cell begins with.

    Args:
        arch: ``'mobile'`` (N = 3, F = 54) or ``'large'`` (N = 4, F = 216).
        out_indices: levels to return, ascending. Nothing after the last
            one is built.
        strides, dilations: None or 2 and 1 for every stage; cells are
            defined for a stride of 2, and without dilation.
        others: as in `StagedBackbone`.
    """

    family = 'PNASNet'

    def __init__(
        self,
        arch: str = 'mobile',
        out_indices: Sequence[int] = (1, 2, 3),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        **staged,
    ):
        per_stage('strides', strides, (2,) * len(STAGES), (2,))
        per_stage('dilations', dilations, (1,) * len(STAGES), (1,))
        variant = VARIANTS[check_choice('arch', arch, VARIANTS)]
        super().__init__(STAGES, out_indices, **staged)
        self.stem = ConvModule(
            3,
            variant.stem,
            3,
            stride=2,
            padding=1,
            bias=False,
            norm_cfg=norm_cfg,
            act_cfg=None,
        )
        n, f = variant.cells, variant.filters
        # Two cells that lead to stride 8, and N cells at each further size.
        widths = ([f // 4], [f // 2] + [f] * n, [2 * f] * n, [4 * f] * n)
        channels, previous = variant.stem, None
        shrink, reduction = False, 2
        # Ends with the last stage asked for.
        for name, stage_widths in zip(self.stage_names, widths, strict=False):
            stage = []
            for index, width in enumerate(stage_widths):
                stride = 2 if index == 0 else 1
                stage.append(
                    Cell(channels, previous, width, stride, shrink, norm_cfg)
                )
                channels, previous = len(CELL) * width, channels
                shrink = stride == 2
            reduction *= 2
            self.add_stage(name, stage, channels, reduction)
        self.freeze_stages()

    def feature(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """The activated output of a stage's last cell."""
        return F.relu(state[0])
