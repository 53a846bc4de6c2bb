"""IGCV2.

Paper: "IGCV2: Interleaved Structured Sparse Convolutional Neural Networks",
https://arxiv.org/abs/1804.06202: MobileNet V1 whose pointwise convolutions
are exchanged for two pointwise group convolutions with a permutation between
them, at which the network can be wider. No code of it was published.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor

from ..compat.foreign_families import IGCV2_FORMATS
from .base import StagedBackbone
from .channel_shuffle import channel_shuffle
from .convolutions import (
    ACT_CFG,
    NORM_CFG,
    depthwise,
    image_stem,
    pointwise,
)
from .mobilenet_v1 import CHANNELS, STEM, STRIDES, UNITS
from .stages import (
    StageRow,
    check_choice,
    check_dilations,
    check_strides,
    plan_stages,
    repeated,
)

WIDTHS = (0.25, 0.5, 1.0)
# How much wider than MobileNet V1, and in how many groups, was found from the
# published FLOPs, 46, 156 and 564 million: as functions of the width their
# linear part says twice as wide, and their quadratic part then says that the
# two pointwise convolutions of a unit cost as much as one in 4 groups. Out of
# the arrangements of 1 to 16 groups these have the figures, 46.1, 155.6 and
# 564.8 million: 8 groups, the first convolution keeps the number of channels,
# and the last of all emits the 1024 channels that MobileNet V1's classifier
# has, from 4 groups. ("4 or 8" is what the ShuffleNet V2 paper says of them.)
WIDER = 2
GROUPS = (8, 8)
LAST_GROUPS = (8, 4)


class InterleavedUnit(nn.Module):
    """A depthwise and two pointwise group convolutions (section 3.2).

    The pointwise ones make up one sparse convolution, so nothing is
    activated between them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        groups: groups of the first and of the second pointwise convolution.
        norm_cfg: type of normalisation.
        act_cfg: type of activation.
        stride: of the depthwise convolution.
        dilations: the first one is that of the depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: tuple[int, int],
        norm_cfg: dict | None,
        act_cfg: dict | None,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        self.groups = groups[0]
        self.depthwise = depthwise(
            in_channels, norm_cfg, act_cfg, stride, dilations[0]
        )
        self.mix1 = pointwise(
            in_channels, in_channels, norm_cfg, None, groups[0]
        )
        self.mix2 = pointwise(
            in_channels, out_channels, norm_cfg, act_cfg, groups[1]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        x = self.mix1(self.depthwise(x))
        return self.mix2(channel_shuffle(x, self.groups))


@MODELS.register_module()
class IGCV2(StagedBackbone):
    """IGCV2 in the layout of MobileNet V1.

    Levels: 0 stage1, 1 stage2, 2 stage3, 3 stage4 and 4 stage5 at strides
    2, 4, 8, 16 and 32.

    Args:
        widen_factor: 0.25, 0.5 or 1.0.
        out_indices: levels to return, ascending. Nothing behind the last one
            is built.
        strides: stride of each stage's first unit; None means the paper's.
        dilations: dilation of each stage's units. A stage's first unit takes
            the previous stage's, as in `ShuffleNetV2`.
        norm_cfg: type of normalisation.
        act_cfg: type of activation; None for none.
        staged: ``frozen_stages``, ``norm_eval``, ``with_cp``,
            ``channels_last`` and ``init_cfg`` of `StagedBackbone`.

    Raises:
        ValueError: an argument is not one of the allowed values.
    """

    checkpoint_formats = IGCV2_FORMATS

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        check_choice('widen_factor', widen_factor, WIDTHS)
        width = widen_factor * WIDER
        stem = int(STEM * width)
        unit = partial(InterleavedUnit, norm_cfg=norm_cfg, act_cfg=act_cfg)
        levels = plan_stages(
            names=[f'stage{i + 1}' for i in range(len(UNITS))],
            in_channels=stem,
            channels=[
                *(int(channels * width) for channels in CHANNELS[:-1]),
                int(CHANNELS[-1] * widen_factor),
            ],
            counts=UNITS,
            strides=check_strides(strides, STRIDES),
            dilations=check_dilations(dilations, len(UNITS)),
            units=partial(_units, unit),
            reduction=2,
        )
        super().__init__(
            stem=image_stem((stem,), norm_cfg, act_cfg, with_pool=False),
            levels=levels,
            out_indices=out_indices,
            **staged,
        )


def _units(unit: Callable[..., nn.Module], row: StageRow) -> list[nn.Module]:
    """Units twice as wide as the stage's input; the last of all is not."""
    wide = 2 * row.in_channels
    if row.out_channels == wide:
        return repeated(partial(unit, groups=GROUPS))(row)
    before = replace(row, out_channels=wide, count=row.count - 1)
    rest = (row.dilations[1], row.dilations[1])
    return [
        *repeated(partial(unit, groups=GROUPS))(before),
        unit(wide, row.out_channels, groups=LAST_GROUPS, dilations=rest),
    ]
