"""Networks of the library pytorchcv, split into levels by their strides.

Papers: IGCV3, https://arxiv.org/abs/1806.00178; CondenseNet,
https://arxiv.org/abs/1711.09224; NASNet, https://arxiv.org/abs/1707.07012;
SENet, https://arxiv.org/abs/1709.01507.
Library: https://github.com/osmr/pytorchcv (MIT), version 0.0.74; optional,
and imported when a network is built.
What differs from the library: images may have any size; IGCV3-D rounds its
channels as MobileNet V2 does; CondenseNet's learned groups, which come with
pretrained weights only, start as plain ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from types import ModuleType

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from ..compat.weight_formats import WeightFormat, formats_of_family
from ..errors import UserError
from .base import StagedBackbone, per_stage
from .layers import channel_shuffle

REQUIREMENT = 'pytorchcv==0.0.74'
# Of each network, its stem and IGCV3's conv5 aside.
STAGES = 4


class MissingLibrary(UserError, ImportError):
    """An optional library that a network is taken from is not installed."""


@dataclass(frozen=True)
class Architecture:
    """A network of the library.

    Attributes:
        family: what it is one of.
        build: makes it from the library's module of that family.
        size_divisor: what the library wants an image's sides to be
            multiples of.
        with_previous: its cells also read the input of the cell before.
        any_layout: it computes in the memory layout it is given.
        classifier: what the library calls its linear layer.
    """

    family: str
    build: Callable[[ModuleType], nn.Module]
    size_divisor: int = 1
    with_previous: bool = False
    any_layout: bool = True
    classifier: str = 'output'


def _igcv3(library: ModuleType, widen_factor: float) -> nn.Module:
    """IGCV3-D (section 4.1) of any width.

    The library rounds channels to even numbers. MobileNet V2, whose widths
    IGCV3-D takes over, rounds them to multiples of 8, with which the
    multiply-adds come closer to the published ones.
    """

    def scaled(channels: int) -> int:
        return make_divisible(channels * widen_factor, 8)

    # (channels, units) of what has one stride.
    stages = (
        ((16, 1),),
        ((24, 4),),
        ((32, 6),),
        ((64, 8), (96, 6)),
        ((160, 6), (320, 1)),
    )
    return library.IGCV3(
        channels=[
            [scaled(width) for width, count in stage for _ in range(count)]
            for stage in stages
        ],
        init_block_channels=scaled(32),
        final_block_channels=max(1280, scaled(1280)),
    )


# CondenseNet's and NASNet's poolings round down; CondenseNet's selection of
# channels and NASNet's cropping give contiguous maps.
_condensenet = partial(
    Architecture, 'CondenseNet', size_divisor=32, any_layout=False
)
ARCHITECTURES = {
    'igcv3_d_x0_7': Architecture('IGCV3', partial(_igcv3, widen_factor=0.7)),
    'igcv3_d_x1_0': Architecture('IGCV3', partial(_igcv3, widen_factor=1.0)),
    'igcv3_d_x1_4': Architecture('IGCV3', partial(_igcv3, widen_factor=1.4)),
    'condensenet_g4_c4': _condensenet(lambda lib: lib.condensenet74_c4_g4()),
    'condensenet_g8_c8': _condensenet(lambda lib: lib.condensenet74_c8_g8()),
    'nasnet_a_4_1056': Architecture(
        'NASNet',
        lambda library: library.nasnet_4a1056(),
        size_divisor=32,
        with_previous=True,
        any_layout=False,
        classifier='output.fc',
    ),
    'senet_154': Architecture(
        'SENet', lambda library: library.senet154(), classifier='output.fc'
    ),
}


@MODELS.register_module()
class PytorchcvBackbone(StagedBackbone):
    """A network of the library pytorchcv as a backbone.

    Levels: 0 stage1, 1 stage2, 2 stage3 and 3 stage4, at strides 4, 8, 16
    and 32; IGCV3-D also has 4 conv5, at stride 32.

    Args:
        arch: ``'igcv3_d_x0_7'``, ``'igcv3_d_x1_0'``, ``'igcv3_d_x1_4'``,
            ``'condensenet_g4_c4'``, ``'condensenet_g8_c8'``,
            ``'nasnet_a_4_1056'`` or ``'senet_154'``.
        out_indices: levels to return, ascending. Nothing after the last
            one is built.
        strides, dilations: None or 2 and 1 for every stage, which is what
            the library's networks have.
        norm_cfg: type of normalisation; None means the library's BN.
        channels_last: memory layout; None means on the CPU only.
            CondenseNet and NASNet have no choice but False.
        staged: ``frozen_stages``, ``norm_eval``, ``with_cp`` and
            ``init_cfg`` of `StagedBackbone`. Pretrained weights may be the
            library's; none are downloaded by themselves.

    Raises:
        MissingLibrary: the library is not installed.
        ValueError: an argument is not one of the allowed values.
    """

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] = (1, 2, 3),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = None,
        channels_last: bool | None = None,
        **staged,
    ):
        check_choice('arch', arch, list(ARCHITECTURES))
        per_stage('strides', strides, (2,) * STAGES, (2,))
        per_stage('dilations', dilations, (1,) * STAGES, (1,))
        architecture = ARCHITECTURES[arch]
        if not architecture.any_layout:
            check_choice(
                f'channels_last of arch {arch!r}', channels_last, (None, False)
            )
            channels_last = False
        features = _network(arch).features
        stem, *levels = _levels(arch)
        super().__init__(
            [level.name for level in levels],
            out_indices,
            channels_last=channels_last,
            **staged,
        )
        self.arch = arch
        self.architecture = architecture
        self.stem = nn.Sequential(*stem.build(features, norm_cfg))
        # Ends with the last level asked for.
        for name, level in zip(self.stage_names, levels, strict=False):
            self.add_stage(
                name,
                level.build(features, norm_cfg),
                level.out_channels,
                level.reduction,
            )
        self.freeze_stages()

    @classmethod
    def formats_for(cls, config: Mapping) -> tuple[WeightFormat, ...]:
        """Those of ``arch``; the library is needed to translate names."""
        return _formats(config['arch'])

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        return _formats(self.arch)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of a batch of images, of any size.

        Where the library wants certain sizes, the image is padded with zeros
        on the right and at the bottom, as mmdet pads batches, and features
        are cropped.
        """
        divisor = self.architecture.size_divisor
        if divisor == 1:
            return super().forward(x)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % divisor, 0, -height % divisor))
        return tuple(
            feature[..., : -(-height // stride), : -(-width // stride)]
            for feature, stride in zip(
                super().forward(x), self.strides, strict=True
            )
        )

    def feature(self, state: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """A stage's output; of cells, with the next cell's activation."""
        return F.relu(state[0]) if isinstance(state, tuple) else state


@cache
def _formats(arch: str) -> tuple[WeightFormat, ...]:
    architecture = ARCHITECTURES[arch]
    own, library = formats_of_family(architecture.family)
    return own, replace(
        library,
        modules=partial(_module_names, arch),
        classifier=architecture.classifier,
    )


def _module_names(arch: str) -> dict[str, str]:
    """Of every module that has weights, our name -> the library's."""
    levels = range(len(_levels(arch)) - 1)
    with torch.device('meta'):
        ours = PytorchcvBackbone(arch, out_indices=levels).state_dict()
    theirs = _network(arch).features.state_dict()
    # The same modules in the same order.
    return {
        a.rpartition('.')[0]: f'features.{b.rpartition(".")[0]}'
        for a, b in zip(ours, theirs, strict=True)
    }


@cache
def _levels(arch: str) -> tuple[Level, ...]:
    architecture = ARCHITECTURES[arch]
    return split_by_stride(_network(arch).features, architecture.with_previous)


def _network(arch: str) -> nn.Module:
    """The library's network without values, which costs next to nothing."""
    architecture = ARCHITECTURES[arch]
    try:
        library = import_module(
            f'pytorchcv.models.{architecture.family.lower()}'
        )
    except ImportError as error:
        raise MissingLibrary(
            f'arch {arch!r} is a network of the optional library pytorchcv; '
            f"install it with: pip install '{REQUIREMENT}'"
        ) from error
    with torch.device('meta'):
        return architecture.build(library)


# Levels are called by their strides, as in the other families.
NAMES = {2: 'stem', 4: 'stage1', 8: 'stage2', 16: 'stage3', 32: 'stage4'}
# What the library has after the last stage: a level of its own, or nothing
# that a backbone needs. Its pooling wants one size of images, and its
# activation is in `PytorchcvBackbone.feature`.
LAST_CONVOLUTION = 'final_block'
LEFT_OUT = ('activ', 'final_pool')
# An image that is halved five times.
SIDE = 64


class ChannelShuffle(nn.Module):
    """`channel_shuffle` in the place of the library's."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)


class CellWithPrevious(nn.Module):
    """A cell whose state is its input and the input of the cell before.

    Args:
        unit: the library's cell, which takes the two as arguments.
    """

    def __init__(self, unit: nn.Module):
        super().__init__()
        self.unit = unit

    def forward(
        self, state: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The cell's output, and its input for the cell after it."""
        x, previous = state if isinstance(state, tuple) else (state, None)
        return self.unit(x, previous), x


@dataclass(frozen=True)
class Level:
    """Units that emit maps of one size.

    Attributes:
        name: ``'stem'``, a stage or ``'conv5'``.
        reduction: pixels of the image per pixel of the map, per side.
        out_channels: channels that the last unit emits.
        units: what the library calls them.
        with_previous: they also read the input of the unit before.
    """

    name: str
    reduction: int
    out_channels: int
    units: tuple[str, ...]
    with_previous: bool

    def build(
        self, features: nn.Module, norm_cfg: dict | None
    ) -> list[nn.Module]:
        """The units with fresh weights, where tensors are made by default.

        Args:
            features: of the library's network on the meta device, whose
                modules are taken.
            norm_cfg: type of normalisation; None means the library's.
        """
        units = [
            _real(features.get_submodule(unit), norm_cfg)
            for unit in self.units
        ]
        if self.with_previous:
            return [CellWithPrevious(unit) for unit in units]
        return units


def split_by_stride(
    features: nn.Sequential, with_previous: bool
) -> tuple[Level, ...]:
    """A network's stem, stages and last convolution.

    Args:
        features: of the library's network on the meta device.
        with_previous: units after the stem also read the input of the unit
            before.
    """
    state = torch.empty(1, 3, SIDE, SIDE, device='meta')
    levels = []
    for name, unit in _units(features.eval()):
        cell = with_previous and bool(levels)
        state = (CellWithPrevious(unit) if cell else unit)(state)
        channels, _, width = (state[0] if cell else state).shape[1:]
        # Unpadded layers leave a little less than half.
        reduction = max(round(SIDE / width), 2)
        level = Level(NAMES[reduction], reduction, channels, (name,), cell)
        if not levels:
            # Some have a pool in it, after which the first stage begins.
            levels.append(replace(level, name='stem', reduction=2))
        elif name == LAST_CONVOLUTION:
            levels.append(replace(level, name='conv5'))
        elif reduction > levels[-1].reduction:
            levels.append(level)
        else:
            units = (*levels[-1].units, name)
            levels[-1] = replace(
                levels[-1], out_channels=channels, units=units
            )
    return tuple(levels)


def _units(features: nn.Sequential) -> list[tuple[str, nn.Module]]:
    """Blocks that are called one after the other, by their names."""
    units = []
    for name, module in features.named_children():
        if isinstance(module, nn.Sequential):
            units += [
                (f'{name}.{inner}', unit)
                for inner, unit in module.named_children()
            ]
        elif name not in LEFT_OUT:
            units.append((name, module))
    return units


def _real(unit: nn.Module, norm_cfg: dict | None) -> nn.Module:
    """A unit with values, and with this package's own modules in it."""
    # Not get_default_device: torch 2.4's overlooks `with torch.device(...)`.
    unit.to_empty(device=torch.empty(0).device).train()
    for module in list(unit.modules()):
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
        if isinstance(getattr(module, 'index', None), Tensor):
            module.index = _in_turn(module.index.numel(), module.conv.groups)
        for name, child in module.named_children():
            if type(child).__name__ == 'ChannelShuffle':
                setattr(module, name, ChannelShuffle(child.groups))
            elif norm_cfg and isinstance(child, nn.BatchNorm2d):
                config = {'eps': child.eps, **norm_cfg}
                norm = build_norm_layer(config, child.num_features)[1]
                setattr(module, name, norm)
    return unit


def _in_turn(channels: int, groups: int) -> Tensor:
    """Which channels CondenseNet's groups read as long as none are learned.

    The library leaves the first channel to all of them. Taken in turn,
    every group reads some of the output of every earlier unit.
    """
    return torch.arange(channels).unflatten(0, (-1, groups)).T.flatten()
