"""MobileNet V1.

Paper: "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", https://arxiv.org/abs/1704.04861.
Original code: https://github.com/tensorflow/models (Apache-2.0), whose
strided convolutions pad one side only; these pad both, as PyTorch's networks
do. Written from the paper's Table 1; equal to pytorchcv's networks.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS

from ..arguments import check_choice
from ..compat.foreign_families import MOBILENET_V1_FORMATS
from .base import StagedBackbone
from .convolutions import (
    ACT_CFG,
    NORM_CFG,
    depthwise,
    image_stem,
    pointwise,
)
from .stages import (
    Units,
    check_dilations,
    check_strides,
    plan_stages,
    repeated,
)

# Published widths; each scales all channels (section 3.3).
WIDTHS = (0.25, 0.5, 0.75, 1.0)
STEM = 32
CHANNELS = (64, 128, 256, 512, 1024)
UNITS = (1, 2, 2, 6, 2)
STRIDES = (1, 2, 2, 2, 2)


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet V1: depthwise separable convolutions in a row.

    Levels: 0 stage1, 1 stage2, 2 stage3, 3 stage4 and 4 stage5 at strides
    2, 4, 8, 16 and 32.

    Args:
        widen_factor: 0.25, 0.5, 0.75 or 1.0.
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

    checkpoint_formats = MOBILENET_V1_FORMATS
    widths = WIDTHS

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
        widen_factor = check_choice('widen_factor', widen_factor, self.widths)
        stem, *channels = self._channels(widen_factor)
        levels = plan_stages(
            names=[f'stage{i + 1}' for i in range(len(UNITS))],
            in_channels=stem,
            channels=channels,
            counts=UNITS,
            strides=check_strides(strides, STRIDES),
            dilations=check_dilations(dilations, len(UNITS)),
            units=self._stage_units(norm_cfg=norm_cfg, act_cfg=act_cfg),
            reduction=2,
        )
        super().__init__(
            stem=image_stem((stem,), norm_cfg, act_cfg, with_pool=False),
            levels=levels,
            out_indices=out_indices,
            **staged,
        )

    @staticmethod
    def _channels(widen_factor: float) -> list[int]:
        """Of the stem and of each stage."""
        return [int(channels * widen_factor) for channels in (STEM, *CHANNELS)]

    @staticmethod
    def _stage_units(**options) -> Units:
        """What a stage consists of; options are ``norm_cfg``, ``act_cfg``."""
        return repeated(partial(_unit, **options))


def _unit(
    in_channels: int,
    out_channels: int,
    stride: int,
    dilations: tuple[int, int],
    **options,
) -> nn.Sequential:
    """A depthwise separable convolution, activated after either half."""
    unit = nn.Sequential()
    unit.depthwise = depthwise(
        in_channels, stride=stride, dilation=dilations[0], **options
    )
    unit.pointwise = pointwise(in_channels, out_channels, **options)
    return unit
