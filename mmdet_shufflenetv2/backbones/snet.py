"""SNet, the backbone of ThunderNet.

Paper: "ThunderNet: Towards Real-time Generic Object Detection on Mobile
Devices", https://arxiv.org/abs/1903.11752, Table 1 and section 3.1.
The authors published no code. SNet is ShuffleNet V2 with 5x5 depthwise
convolutions, for a larger receptive field, and fewer channels at the end.

The paper names the networks after their million multiply-adds. With a
1000-class classifier these have 51.2, 161.1 and 535.4 (docs/decisions.md).
"""

from collections.abc import Sequence
from typing import ClassVar

from mmdet.registry import MODELS

from ..arguments import check_choice
from .shufflenet_v2 import ShuffleNetV2, Variant


@MODELS.register_module()
class SNet(ShuffleNetV2):
    """SNet49, SNet146 and SNet535.

    Levels: 0 stage2, 1 stage3, 2 stage4 and, in SNet49 only, 3 conv5, at
    strides 8, 16, 32 and 32. ThunderNet's C4 is level 1, its C5 the last.

    Args:
        depth: 49, 146 or 535, as in the paper's names.
        out_indices: levels to return, ascending; None means C4 and C5.
        options: as in `ShuffleNetV2`, except ``widen_factor`` and ``arch``.
    """

    family = 'SNet'
    variants: ClassVar = {
        (49, 1.0): Variant((60, 120, 240), 512, kernel_size=5),
        (146, 1.0): Variant((132, 264, 528), 0, kernel_size=5),
        (535, 1.0): Variant((248, 496, 992), 0, stem=(48,), kernel_size=5),
    }

    def __init__(
        self,
        depth: int = 146,
        out_indices: Sequence[int] | None = None,
        **options,
    ):
        check_choice('depth', depth, [key[0] for key in self.variants])
        if out_indices is None:
            out_indices = (1, 3 if depth == 49 else 2)
        super().__init__(out_indices=out_indices, arch=depth, **options)
