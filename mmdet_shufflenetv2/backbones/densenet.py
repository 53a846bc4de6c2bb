"""DenseNet as the ShuffleNet V2 paper compares it.

Paper: "Densely Connected Convolutional Networks",
https://arxiv.org/abs/1608.06993, in the layout of Table 5 of
https://arxiv.org/abs/1807.11164: its stem, and stages 2 to 4 out of DenseNet
blocks, "the number of channels" adjusted to Table 8's FLOPs.
Original code: https://github.com/liuzhuang13/DenseNet (MIT).
Written from the papers. A stage ends with the normalisation and activation
that the original has at the beginning of the next transition, so that a level
returns what the next stage sees; the network computes the same.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone, per_stage
from .layers import ACT_CFG, NORM_CFG, activation, normalisation, pooled_stem

STEM = 24
# Table 5 has one unit of stride 2 and then these many of stride 1. DenseNet
# has transitions for the former.
UNITS = (3, 7, 3)
# Bottlenecks and compression as in DenseNet-BC, of which the paper's ImageNet
# networks are.
BOTTLENECK = 4
COMPRESSION = 0.5

# widen_factor -> growth rate. The ShuffleNet V2 paper states neither these
# nor what becomes of Table 5's conv5. A growth rate proportional to the width
# that comes within 3 % of all of Table 8's FLOPs exists without conv5 only,
# and is 26 at 1x: 43.2, 140.6, 301.0 and 525.2 instead of 42, 142, 295 and
# 519 million. Units (4, 8, 4), no compression, no bottleneck, a rate that
# doubles at each stage, and stride-2 units instead of transitions have none.
GROWTH_RATES = {0.5: 13, 1.0: 26, 1.5: 39, 2.0: 52}


class DenseUnit(nn.Module):
    """Add a few channels, computed from all there are (section 3).

    Args:
        in_channels: channels of the input.
        growth_rate: channels to add.
        norm_cfg, act_cfg: types of normalisation and activation, which
            precede the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        norm_cfg: dict | None,
        act_cfg: dict | None,
    ):
        super().__init__()
        conv = partial(
            ConvModule,
            bias=False,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            order=('norm', 'act', 'conv'),
        )
        middle = BOTTLENECK * growth_rate
        self.pointwise = conv(in_channels, middle, 1)
        self.conv = conv(middle, growth_rate, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels + growth_rate, H, W) of (N, in_channels, H, W)."""
        return torch.cat((x, self.conv(self.pointwise(x))), 1)


@MODELS.register_module()
class DenseNet(StagedBackbone):
    """DenseNet-BC with the stem and the depth of ShuffleNet V2's Table 5.

    Levels: 0 stage2, 1 stage3 and 2 stage4, at strides 8, 16 and 32.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        out_indices: levels to return, ascending. Nothing after the last
            one is built.
        strides, dilations: None or 2 and 1 for every stage; the average
            pooling between the blocks cannot be dilated.
        others: as in `StagedBackbone`.
    """

    family = 'DenseNet'

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        widen_factor = check_choice(
            'widen_factor', widen_factor, list(GROWTH_RATES)
        )
        per_stage('strides', strides, (2,) * len(UNITS), (2,))
        per_stage('dilations', dilations, (1,) * len(UNITS), (1,))
        super().__init__(('stage2', 'stage3', 'stage4'), out_indices, **staged)
        growth_rate = GROWTH_RATES[widen_factor]
        self.stem = pooled_stem(STEM, norm_cfg, act_cfg)
        channels, reduction = STEM, 4
        # Ends with the last stage asked for.
        for name, units in zip(self.stage_names, UNITS, strict=False):
            compressed = int(channels * COMPRESSION)
            transition = nn.Sequential()
            transition.conv = nn.Conv2d(channels, compressed, 1, bias=False)
            transition.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True)
            stage = [transition]
            channels = compressed
            for _ in range(units):
                stage.append(
                    DenseUnit(channels, growth_rate, norm_cfg, act_cfg)
                )
                channels += growth_rate
            end = nn.Sequential()
            end.bn = normalisation(norm_cfg, channels)
            end.activate = activation(act_cfg)
            reduction *= 2
            self.add_stage(name, [*stage, end], channels, reduction)
        self.freeze_stages()
