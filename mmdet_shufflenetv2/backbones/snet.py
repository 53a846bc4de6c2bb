"""SNet, the backbone of ThunderNet.

Paper: "ThunderNet: Towards Real-time Generic Object Detection on Mobile
Devices", https://arxiv.org/abs/1903.11752, Table 1 and section 3.1.
No code of the authors is public. It is ShuffleNet V2 with 5x5 depthwise
convolutions, which see farther, and fewer channels at the end: SNet49 has a
conv5 of 512, the others none.

The paper calls a network by its million multiply-adds; with the channels of
its Table 1 and a classifier of 1000 classes SNet146 has more than that.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS

from ..arguments import check_choice
from .base import StagedBackbone
from .layers import ACT_CFG, NORM_CFG, activation
from .shufflenet_v2 import ShuffleUnit, conv_and_norm

# depth -> channels of stage2, stage3 and stage4, of conv5 (0: there is none).
VARIANTS = {
    49: (60, 120, 240, 512),
    146: (132, 264, 528, 0),
    535: (248, 496, 992, 0),
}
UNITS = (4, 8, 4)


@MODELS.register_module()
class SNet(StagedBackbone):
    """SNet49, SNet146 and SNet535.

    Levels: 0 stage2, 1 stage3, 2 stage4 and, of SNet49, 3 conv5, at strides
    8, 16, 32 and 32. ThunderNet's C4 is level 1, its C5 the last level.

    Args:
        depth: 49, 146 or 535, the paper's name.
        out_indices: levels to return, ascending; None means C4 and C5.
        strides, dilations, norm_cfg, act_cfg, staged: as in `ShuffleNetV2`.
    """

    family = 'SNet'
    stem_names = ('conv1', 'maxpool')

    def __init__(
        self,
        depth: int = 146,
        out_indices: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        check_choice('depth', depth, VARIANTS)
        *channels, conv5 = VARIANTS[depth]
        levels = ['stage2', 'stage3', 'stage4'] + ['conv5'] * bool(conv5)
        if out_indices is None:
            out_indices = (1, len(levels) - 1)
        super().__init__(levels, out_indices, **staged)
        self.conv1 = nn.Sequential(
            *conv_and_norm(3, 24, 3, norm_cfg, 2), activation(act_cfg)
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        unit = partial(
            ShuffleUnit, kernel_size=5, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        widths = [
            [width] * units
            for width, units in zip(channels, UNITS, strict=True)
        ]
        last, reduction = self.add_stages(
            unit, 24, widths, (strides, (2, 2, 2)), dilations
        )
        if 'conv5' in self.stage_names:
            layers = (
                *conv_and_norm(last, conv5, 1, norm_cfg),
                activation(act_cfg),
            )
            self.add_stage('conv5', nn.Sequential(*layers), conv5, reduction)
        self.freeze_stages()
