"""ShuffleNet V2.

Paper: "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", https://arxiv.org/abs/1807.11164.
Original code: https://github.com/megvii-model/ShuffleNet-Series (MIT).
Written from the paper. By default a network equals torchvision's. With
``style='authors'`` it equals the authors' code, which shuffles where a unit
begins and gives the two branches of stage2's first unit 24 and C - 24
channels instead of C / 2 each; the paper's FLOPs count the latter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn as nn
from mmdet.registry import MODELS

from ..arguments import check_choice
from ..compat.foreign_checkpoints import SHUFFLENET_V2_FORMATS
from .base import StagedBackbone
from .convolutions import ACT_CFG, NORM_CFG, image_stem, pointwise
from .shuffle_unit import ShuffleUnit, UnitOptions
from .stages import (
    Stage,
    check_dilations,
    check_strides,
    plan_stages,
    repeated,
)


@dataclass(frozen=True)
class Variant:
    """One network of the paper.

    Attributes:
        stem: output channels of the 3x3 convolutions in front of the max
            pool; the first one has stride 2.
        units: units per stage.
        channels: output channels per stage.
        strides: stride of each stage's first unit.
        conv5: output channels of the last 1x1 convolution.
        with_se, with_residual: what the variant's units have by default.
    """

    stem: tuple[int, ...]
    units: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    conv5: int
    with_se: bool = False
    with_residual: bool = False


def _table5(channels: tuple[int, ...], conv5: int) -> Variant:
    return Variant((24,), (4, 8, 4), channels, (2, 2, 2), conv5)


# (arch, widen_factor) -> network: Table 5 and Table 2 of the appendix.
VARIANTS = {
    ('v2', 0.5): _table5((48, 96, 192), 1024),
    ('v2', 1.0): _table5((116, 232, 464), 1024),
    ('v2', 1.5): _table5((176, 352, 704), 1024),
    ('v2', 2.0): _table5((244, 488, 976), 2048),
    ('v2_50', 1.0): Variant(
        stem=(64,),
        units=(3, 4, 6, 3),
        channels=(244, 488, 976, 1952),
        strides=(1, 2, 2, 2),
        conv5=2048,
    ),
    ('se_v2_164', 1.0): Variant(
        stem=(64, 64, 128),
        units=(10, 10, 23, 10),
        channels=(340, 680, 1360, 2720),
        strides=(1, 2, 2, 2),
        conv5=2048,
        with_se=True,
        with_residual=True,
    ),
}

STYLES = ('torchvision', 'authors')
RECEPTIVE_FIELDS = ('standard', 'enlarged')
# None is as the variant has it.
SWITCH = (None, True, False)


@MODELS.register_module()
class ShuffleNetV2(StagedBackbone):
    """ShuffleNet V2, V2*, SE-ShuffleNet V2 and the paper's deep variants.

    Levels of ``arch='v2'``: 0 stage2, 1 stage3, 2 stage4 and 3 conv5, at
    strides 8, 16, 32 and 32. The deep variants start at stride 4: 0 stage1,
    1 stage2, 2 stage3, 3 stage4 and 4 conv5.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0; 1.0 for the deep variants.
        out_indices: levels to return, ascending; None means all stages but
            conv5. Nothing behind the last one is built.
        arch: ``'v2'`` (Table 5), ``'v2_50'`` or ``'se_v2_164'`` (Table 2 of
            the appendix).
        style: ``'torchvision'`` or ``'authors'``: whose unit, and so whose
            pretrained weights fit; they differ in stage2's first unit and
            in the order of channels.
        receptive_field: ``'enlarged'`` is the paper's V2* (section 4,
            object detection): a 3x3 depthwise convolution in front of the
            first pointwise one of every unit's main branch.
        with_se: squeeze and excitation at the end of every main branch;
            None means as the variant has it.
        with_residual: add the main branch's input to its output where both
            have the same size; None means as the variant has it.
        strides: stride of each stage's first unit; None means the paper's.
        dilations: dilation of each stage's units. A stage's first unit
            takes the previous stage's, so that a network with a stride
            exchanged for a dilation computes what the strided one does, at
            more places, and can use its weights.
        frozen_stages: -1 none, 0 the stem, k the stem and k stages.
        norm_cfg: type of normalisation.
        act_cfg: type of activation; None for none.
        norm_eval: keep every BN in evaluation mode.
        with_cp: trade computation for memory in training.
        channels_last: memory layout; None means on the CPU only.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` reads our own,
            torchvision's, the authors' and mmpretrain's checkpoints.

    Raises:
        ValueError: an argument is not one of the allowed values.
    """

    checkpoint_formats = SHUFFLENET_V2_FORMATS
    styles = STYLES

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        arch: str = 'v2',
        style: str = 'torchvision',
        receptive_field: str = 'standard',
        with_se: bool | None = None,
        with_residual: bool | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        norm_eval: bool = False,
        with_cp: bool = False,
        channels_last: bool | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        variant = _variant(arch, widen_factor)
        check_choice('style', style, STYLES)
        check_choice('receptive_field', receptive_field, RECEPTIVE_FIELDS)
        check_choice('with_se', with_se, SWITCH)
        check_choice('with_residual', with_residual, SWITCH)
        options = UnitOptions(
            shuffle_first=style == 'authors',
            enlarged=receptive_field == 'enlarged',
            with_se=variant.with_se if with_se is None else with_se,
            with_residual=(
                variant.with_residual
                if with_residual is None
                else with_residual
            ),
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        count = len(variant.units)
        levels = _plan(
            variant,
            options,
            check_strides(strides, variant.strides),
            check_dilations(dilations, count),
        )
        super().__init__(
            stem=image_stem(variant.stem, norm_cfg, act_cfg),
            levels=levels,
            out_indices=range(count) if out_indices is None else out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            channels_last=channels_last,
            init_cfg=init_cfg,
        )
        self.style = style


def _variant(arch: str, widen_factor: float) -> Variant:
    arch = check_choice(
        'arch', arch, dict.fromkeys(name for name, _ in VARIANTS)
    )
    width = check_choice(
        f'widen_factor of arch {arch!r}',
        widen_factor,
        [width for name, width in VARIANTS if name == arch],
    )
    return VARIANTS[arch, width]


def _plan(
    variant: Variant,
    options: UnitOptions,
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[Stage]:
    """The stages of a variant, and conv5."""
    # Names follow the paper's Table 5, where stage2 is the first one and
    # has stride 8; the deep variants have one more stage in front of it.
    first = 5 - len(variant.units)
    stages = plan_stages(
        names=[f'stage{first + i}' for i in range(len(variant.units))],
        in_channels=variant.stem[-1],
        channels=variant.channels,
        counts=variant.units,
        strides=strides,
        dilations=dilations,
        units=repeated(partial(ShuffleUnit, options=options)),
    )
    last = stages[-1]

    def conv5() -> list[nn.Module]:
        return [
            pointwise(
                last.out_channels,
                variant.conv5,
                options.norm_cfg,
                options.act_cfg,
            )
        ]

    return [*stages, Stage('conv5', variant.conv5, last.reduction, conv5)]
