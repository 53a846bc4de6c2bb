"""ShuffleNet V1.

Paper: "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", https://arxiv.org/abs/1707.01083.
Original code: https://github.com/megvii-model/ShuffleNet-Series (MIT).
Written from the paper. What the paper leaves open, the order of channels in
a concatenation, and where and how channels are shuffled, is a ``style``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mmdet.registry import MODELS

from ..arguments import check_choice
from ..compat.foreign_families import SHUFFLENET_V1_FORMATS
from .base import StagedBackbone
from .convolutions import ACT_CFG, NORM_CFG, image_stem
from .shuffle_unit_v1 import STYLES, ShuffleUnitV1
from .stages import (
    check_dilations,
    check_strides,
    plan_stages,
    repeated,
)


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        stem: output channels of the 3x3 convolution.
        channels: output channels per stage; a quarter of them inside a unit.
        units: units per stage.
        strides: stride of each stage's first unit.
        first_groups: groups of the very first unit's two pointwise
            convolutions; None means 1 and as everywhere.
    """

    stem: int
    channels: tuple[int, ...]
    units: tuple[int, ...] = (4, 8, 4)
    strides: tuple[int, ...] = (2, 2, 2)
    first_groups: tuple[int, int] | None = None


# (arch, groups, widen_factor) -> network. Widths of 1.0: Table 1 of the V1
# paper. Others: the authors' code, which has them for 3 and 8 groups and
# rounds the stem its own way; stages of 0.5 with 2 or 4 groups would not
# divide.
# 'v1_50': Table 2 of the V2 paper's appendix. Its first stage concatenates
# 296 channels to the 64 of the stem, which 3 groups do not divide, so that
# unit is not grouped. What the paper leaves open for a first unit at stride 1
# is taken from Fig. 2 (c): a 3x3 average pool on the shortcut.
VARIANTS = {
    ('v1', 1, 1.0): Variant(24, (144, 288, 576)),
    ('v1', 2, 1.0): Variant(24, (200, 400, 800)),
    ('v1', 3, 0.5): Variant(12, (120, 240, 480)),
    ('v1', 3, 1.0): Variant(24, (240, 480, 960)),
    ('v1', 3, 1.5): Variant(24, (360, 720, 1440)),
    ('v1', 3, 2.0): Variant(48, (480, 960, 1920)),
    ('v1', 4, 1.0): Variant(24, (272, 544, 1088)),
    ('v1', 8, 0.5): Variant(16, (192, 384, 768)),
    ('v1', 8, 1.0): Variant(24, (384, 768, 1536)),
    ('v1', 8, 1.5): Variant(24, (576, 1152, 2304)),
    ('v1', 8, 2.0): Variant(48, (768, 1536, 3072)),
    ('v1_50', 3, 1.0): Variant(
        stem=64,
        channels=(360, 720, 1440, 2880),
        units=(3, 4, 6, 3),
        strides=(1, 2, 2, 2),
        first_groups=(1, 1),
    ),
}


@MODELS.register_module()
class ShuffleNetV1(StagedBackbone):
    """ShuffleNet V1 and the 50-layer network of the V2 paper.

    Levels: 0 stage2, 1 stage3 and 2 stage4 at strides 8, 16 and 32; with
    ``arch='v1_50'`` 0 stage1, 1 stage2, 2 stage3 and 3 stage4 from stride 4.

    Args:
        widen_factor: 1.0, and 0.5, 1.5 and 2.0 with 3 or 8 groups.
        groups: groups of the pointwise convolutions: 1, 2, 3, 4 or 8.
        out_indices: levels to return, ascending; None means all stages.
            Nothing behind the last one is built.
        arch: ``'v1'`` or ``'v1_50'``, which has 3 groups.
        style: ``'paper'``, ``'authors'`` or ``'mmpretrain'``: whose order of
            channels, and so whose pretrained weights fit. ``'paper'`` equals
            pytorchcv's networks.
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

    checkpoint_formats = SHUFFLENET_V1_FORMATS
    styles = tuple(STYLES)

    def __init__(
        self,
        widen_factor: float = 1.0,
        groups: int = 3,
        out_indices: Sequence[int] | None = None,
        arch: str = 'v1',
        style: str = 'paper',
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        **staged,
    ):
        arch, groups, width = _checked(arch, groups, widen_factor)
        variant = VARIANTS[arch, groups, width]
        check_choice('style', style, STYLES)
        count = len(variant.units)
        levels = plan_stages(
            # The paper calls the stage of stride 8 stage2.
            names=[f'stage{5 - count + i}' for i in range(count)],
            in_channels=variant.stem,
            channels=variant.channels,
            counts=variant.units,
            strides=check_strides(strides, variant.strides),
            dilations=check_dilations(dilations, count),
            units=repeated(
                partial(
                    _unit,
                    variant=variant,
                    groups=groups,
                    style=STYLES[style],
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                )
            ),
        )
        super().__init__(
            stem=image_stem((variant.stem,), norm_cfg, act_cfg),
            levels=levels,
            out_indices=range(count) if out_indices is None else out_indices,
            **staged,
        )
        self.style = style


def _checked(
    arch: str, groups: int, widen_factor: float
) -> tuple[str, int, float]:
    """The key of `VARIANTS` that the arguments are."""

    def having(*known: object) -> list:
        """Values of the next part of the keys that begin with those."""
        rows = [key for key in VARIANTS if key[: len(known)] == known]
        return list(dict.fromkeys(key[len(known)] for key in rows))

    arch = check_choice('arch', arch, having())
    groups = check_choice(f'groups of arch {arch!r}', groups, having(arch))
    width = check_choice(
        f'widen_factor of arch {arch!r} with groups={groups}',
        widen_factor,
        having(arch, groups),
    )
    return arch, groups, width


def _unit(
    in_channels: int,
    out_channels: int,
    variant: Variant,
    groups: int,
    **options,
) -> ShuffleUnitV1:
    both = (groups, groups)
    if in_channels == variant.stem:
        # Few channels, which the paper does not group (section 3.3).
        both = variant.first_groups or (1, groups)
    return ShuffleUnitV1(in_channels, out_channels, both, **options)
