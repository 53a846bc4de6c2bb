"""ShuffleNet V2.

Paper: "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", https://arxiv.org/abs/1807.11164.
Original code: https://github.com/megvii-model/ShuffleNet-Series (MIT).
Written from the paper, with torchvision's layer names, so torchvision's
weights load unchanged. By default the networks equal torchvision's. With
``style='authors'`` they equal the authors' code, whose FLOPs the paper
states: it shuffles channels at the start of a unit, and the two branches of
stage2's first unit have 24 and C - 24 channels instead of C / 2 each.

Shapes: N images, C channels, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import SqueezeExcitation

from ..arguments import check_choice, check_row
from .base import StagedBackbone, repeated
from .layers import (
    ACT_CFG,
    NORM_CFG,
    FoldedSequential,
    activation,
    interleave,
    normalisation,
    split_even_odd,
)

STYLES = ('torchvision', 'authors')


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        channels, units: output channels and number of units per stage.
        conv5: output channels of conv5; 0 for no conv5.
        stem: output channels of the 3x3 convolutions before the max pool.
        kernel_size, with_se, with_residual: defaults of its units.
    """

    channels: tuple[int, ...]
    conv5: int
    stem: tuple[int, ...] = (24,)
    units: tuple[int, ...] = (4, 8, 4)
    kernel_size: int = 3
    with_se: bool = False
    with_residual: bool = False


# (arch, widen_factor) -> network: Table 5, and Table 2 of the appendix.
VARIANTS = {
    ('v2', 0.5): Variant((48, 96, 192), 1024),
    ('v2', 1.0): Variant((116, 232, 464), 1024),
    ('v2', 1.5): Variant((176, 352, 704), 1024),
    ('v2', 2.0): Variant((244, 488, 976), 2048),
    ('v2_50', 1.0): Variant(
        (244, 488, 976, 1952), 2048, stem=(64,), units=(3, 4, 6, 3)
    ),
    ('se_v2_164', 1.0): Variant(
        (340, 680, 1360, 2720),
        2048,
        stem=(64, 64, 128),
        units=(10, 10, 23, 10),
        with_se=True,
        with_residual=True,
    ),
}


def conv_and_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm_cfg: dict | None,
    dilation: int = 1,
    **options: int,
) -> tuple[nn.Module, nn.Module]:
    """A "same"-padded convolution and its norm."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=norm_cfg is None,
        **options,
    )
    return conv, normalisation(norm_cfg, out_channels)


class ShuffleUnit(nn.Module):
    """The unit of Fig. 3 (c), or (d) if the number of channels changes.

    Unit (d) transforms both branches; unit (c) passes half of its input on.

    Args:
        in_channels, out_channels: channels of the input and the output.
        stride: of the depthwise convolutions; 1 for unit (c).
        dilations: see `StagedBackbone.add_stages`; only the first applies.
        enlarged: add the extra depthwise convolution of V2*.
        kernel_size: of the depthwise convolutions.
        others: as in `ShuffleNetV2`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        *,
        style: str = 'torchvision',
        enlarged: bool = False,
        with_se: bool = False,
        with_residual: bool = False,
        kernel_size: int = 3,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
    ):
        super().__init__()
        self.shuffle_first = style == 'authors'
        self.downsample = in_channels != out_channels
        self.with_residual = with_residual and not self.downsample
        half = passed = out_channels // 2
        main_in = in_channels if self.downsample else half
        if self.downsample and self.shuffle_first:
            passed = in_channels
        main_out = out_channels - passed

        def depthwise(channels: int, stride: int) -> tuple[nn.Module, ...]:
            places = dict(
                stride=stride, dilation=dilations[0], groups=channels
            )
            return conv_and_norm(
                channels, channels, kernel_size, norm_cfg, **places
            )

        if self.downsample:
            self.branch1 = FoldedSequential(
                *depthwise(main_in, stride),
                *conv_and_norm(main_in, passed, 1, norm_cfg),
                activation(act_cfg),
            )
        self.enlarge = nn.Identity()
        if enlarged:
            # The extra depthwise convolution of V2* has no activation.
            self.enlarge = FoldedSequential(*depthwise(main_in, 1))
        self.branch2 = FoldedSequential(
            *conv_and_norm(main_in, half, 1, norm_cfg),
            activation(act_cfg),
            *depthwise(half, stride),
            *conv_and_norm(half, main_out, 1, norm_cfg),
        )
        self.se = nn.Identity()
        if with_se:
            # Not reduced: Table 2 of the appendix has half a unit's channels.
            self.se = SqueezeExcitation(
                main_out, main_out, lambda: activation(act_cfg)
            )
        self.activate = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if self.downsample:
            passed = self.branch1(x)
        elif self.shuffle_first:
            passed, x = split_even_odd(x)
        else:
            passed, x = x.chunk(2, dim=1)
        main = self.se(self.branch2(self.enlarge(x)))
        if self.with_residual:
            main = main + x
        main = self.activate(main)
        if self.shuffle_first:
            return torch.cat((passed, main), 1)
        return interleave(passed, main)


@MODELS.register_module()
class ShuffleNetV2(StagedBackbone):
    """ShuffleNet V2, V2*, SE-ShuffleNet V2 and the paper's deep variants.

    Levels of ``arch='v2'``: 0 stage2, 1 stage3, 2 stage4 and 3 conv5, at
    strides 8, 16, 32 and 32. The deep variants start at stride 4: 0 stage1,
    1 stage2, 2 stage3, 3 stage4 and 4 conv5.

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` reads the files of
    torchvision, the authors, mmpretrain and others directly. V2* can load
    V2's weights and then computes the same features.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0; 1.0 for the deep variants.
        out_indices: levels to return; None means all but conv5.
        arch: ``'v2'`` (Table 5), ``'v2_50'`` or ``'se_v2_164'`` (Table 2 of
            the appendix).
        style: ``'torchvision'`` or ``'authors'``: whose units to build, and
            so whose pretrained weights fit. They differ in stage2's first
            unit and in the order of channels.
        receptive_field: ``'standard'``, or ``'enlarged'`` for the paper's
            V2* (section 4, object detection): a 3x3 depthwise convolution
            before the first pointwise one of every unit's main branch.
        with_se: end main branches with squeeze and excitation. For this and
            the next option None means the variant's default.
        with_residual: add a main branch's input to its output if they have
            the same size.
        others: as in `StagedBackbone`.
    """

    family = 'ShuffleNetV2'
    stem_names = ('conv1', 'maxpool')
    styles = STYLES
    variants = VARIANTS

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        arch: str = 'v2',
        style: str = 'torchvision',
        receptive_field: str = 'standard',
        with_se: bool | None = None,
        with_residual: bool | None = None,
        **staged,
    ):
        variant = check_row(
            self.variants, arch=arch, widen_factor=widen_factor
        )
        check_choice('style', style, STYLES)
        fields = ('standard', 'enlarged')
        check_choice('receptive_field', receptive_field, fields)
        check_choice('with_se', with_se, (None, True, False))
        check_choice('with_residual', with_residual, (None, True, False))
        if with_se is None:
            with_se = variant.with_se
        if with_residual is None:
            with_residual = variant.with_residual
        count = len(variant.units)
        # In Table 5 of the paper, stage2 is the stage of stride 8.
        levels = [f'stage{5 - count + i}' for i in range(count)]
        if variant.conv5:
            levels.append('conv5')
        if out_indices is None:
            out_indices = range(count)
        super().__init__(levels, out_indices, **staged)
        self.style = style

        layers, channels, stride = [], 3, 2
        for out_channels in variant.stem:
            layers += (
                *conv_and_norm(
                    channels, out_channels, 3, self.norm_cfg, stride=stride
                ),
                activation(self.act_cfg),
            )
            channels, stride = out_channels, 1
        self.conv1 = FoldedSequential(*layers)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        unit = partial(
            ShuffleUnit,
            style=style,
            enlarged=receptive_field == 'enlarged',
            with_se=with_se,
            with_residual=with_residual,
            kernel_size=variant.kernel_size,
            **self.types,
        )
        channels, reduction = self.add_stages(
            unit,
            channels,
            repeated(variant.channels, variant.units),
            (1, 2, 2, 2)[-count:],
        )
        if 'conv5' in self.stage_names:
            conv5 = FoldedSequential(
                *conv_and_norm(channels, variant.conv5, 1, self.norm_cfg),
                activation(self.act_cfg),
            )
            self.add_stage('conv5', conv5, variant.conv5, reduction)
        self.freeze_stages()

    @property
    def styles_of_these_shapes(self) -> tuple[str, ...]:
        """All styles if the first unit has the same channels in each."""
        first = getattr(self, self.stage_names[0])[0]
        same = first.branch1[0].in_channels == first.branch2[0].out_channels
        return STYLES if same else (self.style,)

    def neutral_weights(self) -> dict[str, Tensor]:
        """Weights that make V2* equal V2: identities for `enlarge`."""
        weights = {}
        for name, module in self.named_modules():
            if not name.endswith(('.enlarge.0', '.enlarge.1')):
                continue
            new = {
                k: torch.zeros_like(v) for k, v in module.state_dict().items()
            }
            if isinstance(module, nn.Conv2d):
                centre = module.kernel_size[0] // 2
                new['weight'][:, :, centre, centre] = 1
            elif isinstance(module, _BatchNorm):
                new['weight'].fill_(1)
                new['running_var'].fill_(1 - module.eps)
            elif new:
                # Other norms, such as GroupNorm, cannot be the identity.
                return {}
            weights |= {f'{name}.{key}': value for key, value in new.items()}
        return weights
