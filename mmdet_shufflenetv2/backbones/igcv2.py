"""IGCV2.

Paper: "IGCV2: Interleaved Structured Sparse Convolutional Neural Networks",
https://arxiv.org/abs/1804.06202: MobileNet V1 with each pointwise convolution
replaced by two pointwise group convolutions and a permutation between them,
which lets the network be wider. Its code was not published.
"""

import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor

from .layers import channel_shuffle, depthwise, pointwise
from .mobilenet_v1 import CHANNELS, STEM, MobileNetV1

# The width, relative to MobileNet V1, and the groups follow from the published
# FLOPs (docs/decisions.md). The last unit emits MobileNet V1's 1024 channels.
WIDER = 2
GROUPS = (8, 8)
LAST_GROUPS = (8, 4)


class InterleavedUnit(nn.Module):
    """A depthwise and two pointwise group convolutions (section 3.2).

    The pointwise ones form one sparse convolution, so there is no activation
    between them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        dilations: tuple[int, int],
        norm_cfg: dict | None,
        act_cfg: dict | None,
    ):
        super().__init__()
        # Only the very last unit reduces the number of channels.
        first, last = LAST_GROUPS if out_channels < in_channels else GROUPS
        self.groups = first
        types = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.depthwise = depthwise(in_channels, stride, dilations[0], **types)
        self.mix1 = pointwise(
            in_channels, in_channels, first, norm_cfg=norm_cfg, act_cfg=None
        )
        self.mix2 = pointwise(in_channels, out_channels, last, **types)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        x = self.mix1(self.depthwise(x))
        return self.mix2(channel_shuffle(x, self.groups))


@MODELS.register_module()
class IGCV2(MobileNetV1):
    """IGCV2 in the layout of MobileNet V1.

    Args:
        widen_factor: 0.25, 0.5 or 1.0.
        others: as in `MobileNetV1`, as are the levels.
    """

    family = 'IGCV2'
    widths = (0.25, 0.5, 1.0)
    channels = (
        (WIDER * STEM,),
        *(tuple(WIDER * width for width in stage) for stage in CHANNELS[:-1]),
        (WIDER * CHANNELS[-1][0], CHANNELS[-1][1]),
    )
    unit = InterleavedUnit
