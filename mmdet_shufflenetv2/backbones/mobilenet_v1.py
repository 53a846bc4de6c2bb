"""MobileNet V1.

Paper: "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", https://arxiv.org/abs/1704.04861.
Original code: https://github.com/tensorflow/models (Apache-2.0). Its strided
convolutions pad one side only; these pad both, as usual in PyTorch.
Written from the paper's Table 1; equal to pytorchcv's networks.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import depthwise, image_conv, pointwise

STEM = 32
# Output channels of each unit, per stage.
CHANNELS = ((64,), (128,) * 2, (256,) * 2, (512,) * 6, (1024,) * 2)


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet V1: a chain of depthwise separable convolutions.

    Levels: 0 stage1, 1 stage2, 2 stage3, 3 stage4 and 4 stage5 at strides
    2, 4, 8, 16 and 32.

    Args:
        widen_factor: 0.25, 0.5, 0.75 or 1.0; scales all channels (section
            3.3).
        out_indices, others: as in `StagedBackbone`.
    """

    family = 'MobileNetV1'
    widths = (0.25, 0.5, 0.75, 1.0)
    # Of the stem, and of each stage's units.
    channels = ((STEM,), *CHANNELS)

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        **staged,
    ):
        widen_factor = check_choice('widen_factor', widen_factor, self.widths)
        stages = [f'stage{i + 1}' for i in range(len(CHANNELS))]
        super().__init__(stages, out_indices, **staged)
        (stem,), *widths = (
            [int(width * widen_factor) for width in stage]
            for stage in self.channels
        )
        self.stem = nn.Sequential()
        self.stem.conv1 = image_conv(stem, **self.types)
        unit = partial(self.unit, **self.types)
        self.add_stages(unit, stem, widths, (1, 2, 2, 2, 2), reduction=2)
        self.freeze_stages()

    def unit(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        dilations: tuple[int, int],
        **types,
    ) -> nn.Module:
        """A depthwise separable convolution, with both parts activated."""
        unit = nn.Sequential()
        unit.depthwise = depthwise(in_channels, stride, dilations[0], **types)
        unit.pointwise = pointwise(in_channels, out_channels, **types)
        return unit
