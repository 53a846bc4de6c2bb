"""DenseNet, as in the comparisons of the ShuffleNet V2 paper.

Paper: "Densely Connected Convolutional Networks",
https://arxiv.org/abs/1608.06993, in the layout of Table 5 of
https://arxiv.org/abs/1807.11164: its stem, then stages 2 to 4 of DenseNet
blocks, with "the number of channels" adjusted to the FLOPs of Table 8.
Original code: https://github.com/liuzhuang13/DenseNet (MIT).
Written from the papers. Stages end with the normalisation and activation that
start the next transition in the original.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import activation, normalisation, pooled_stem

STEM = 24
# Table 5's units of stride 1; DenseNet has transitions for the strided ones.
UNITS = (3, 7, 3)
# As in DenseNet-BC, the paper's variant for ImageNet.
BOTTLENECK = 4
COMPRESSION = 0.5
# widen_factor -> growth rate. The ShuffleNet V2 paper states neither these nor
# whether Table 5's conv5 is kept; only without it do all of Table 8's FLOPs
# come out within 3 % (docs/decisions.md).
GROWTH_RATES = {0.5: 13, 1.0: 26, 1.5: 39, 2.0: 52}


class DenseUnit(nn.Module):
    """Append ``growth_rate`` channels computed from all others (section 3).

    Normalisation and activation precede the convolutions.
    """

    def __init__(self, in_channels: int, growth_rate: int, **types):
        super().__init__()
        types.update(bias=False, order=('norm', 'act', 'conv'))
        middle = BOTTLENECK * growth_rate
        self.pointwise = ConvModule(in_channels, middle, 1, **types)
        self.conv = ConvModule(middle, growth_rate, 3, padding=1, **types)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + growth_rate, H, W)."""
        return torch.cat((x, self.conv(self.pointwise(x))), 1)


@MODELS.register_module()
class DenseNet(StagedBackbone):
    """DenseNet-BC with the stem and depth of ShuffleNet V2's Table 5.

    Levels: 0 stage2, 1 stage3 and 2 stage4, at strides 8, 16 and 32.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        out_indices, others: as in `StagedBackbone`.
    """

    family = 'DenseNet'

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2),
        **staged,
    ):
        width = check_choice('widen_factor', widen_factor, GROWTH_RATES)
        super().__init__(('stage2', 'stage3', 'stage4'), out_indices, **staged)
        self.strides_and_dilations((2,) * len(UNITS), fixed=True)
        growth_rate = GROWTH_RATES[width]
        self.stem = pooled_stem(STEM, **self.types)
        channels, reduction = STEM, 4
        # stage_names ends with the last level to return.
        for name, units in zip(self.stage_names, UNITS, strict=False):
            transition = nn.Sequential()
            compressed = int(channels * COMPRESSION)
            transition.conv = nn.Conv2d(channels, compressed, 1, bias=False)
            transition.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True)
            stage, channels = [transition], compressed
            for _ in range(units):
                stage.append(DenseUnit(channels, growth_rate, **self.types))
                channels += growth_rate
            end = nn.Sequential()
            end.bn = normalisation(self.norm_cfg, channels)
            end.activate = activation(self.act_cfg)
            reduction *= 2
            self.add_stage(name, [*stage, end], channels, reduction)
        self.freeze_stages()
