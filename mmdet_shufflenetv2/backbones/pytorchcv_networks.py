"""Backbones built from networks of the pytorchcv library.

Papers: IGCV3, https://arxiv.org/abs/1806.00178; CondenseNet,
https://arxiv.org/abs/1711.09224; NASNet, https://arxiv.org/abs/1707.07012;
PNASNet-5, https://arxiv.org/abs/1712.00559; SENet,
https://arxiv.org/abs/1709.01507.
Library: https://github.com/osmr/pytorchcv (MIT), version 0.0.74; optional,
imported only when a network is built.
Differences from the library: images may have any size; IGCV3-D rounds its
channels as MobileNet V2 does; CondenseNet's learned groups start as plain
groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from operator import methodcaller
from types import ModuleType

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from ..compat.weight_formats import WeightFormat
from ..errors import UserError
from .base import StagedBackbone
from .layers import channel_shuffle

REQUIREMENT = 'pytorchcv==0.0.74'
# family -> the library's blocks of the stem, of each stage from stride 4 on,
# and of conv5. Left out are poolings for one fixed image size, and the last
# activation of cells.
LEVELS = {
    'IGCV3': 'init_block+stage1 stage2 stage3 stage4 stage5 final_block',
    'CondenseNet': 'init_block+stage1 stage2 stage3 stage4 stage5+post_activ',
    'NASNet': 'init_block stem1_unit stem2_unit+stage1 stage2 stage3',
    'PNASNet': 'init_block stem1_unit stage1 stage2 stage3',
    'SENet': 'init_block stage1 stage2 stage3 stage4',
}
# Cells of these networks also read the previous cell's input.
CELLS = ('NASNet', 'PNASNet')
# Poolings of these round down, so images are padded; layout is contiguous.
PADDED = ('CondenseNet', *CELLS)
SIZE_DIVISOR = 32


class MissingLibrary(UserError, ImportError):
    """A network needs an optional library that is not installed."""


def _igcv3(library: ModuleType, widen_factor: float) -> nn.Module:
    """IGCV3-D (section 4.1) of any width, in multiples of 8 channels.

    The library rounds to even numbers, which is further off the published
    multiply-adds.
    """

    def scaled(channels: int) -> int:
        return make_divisible(channels * widen_factor, 8)

    # Channels of each unit, per stage.
    stages = (16,), (24,) * 4, (32,) * 6, (64,) * 8 + (96,) * 6
    stages += ((160,) * 6 + (320,),)
    return library.IGCV3(
        channels=[[scaled(width) for width in stage] for stage in stages],
        init_block_channels=scaled(32),
        final_block_channels=max(1280, scaled(1280)),
    )


def _pnasnet(library: ModuleType, size: tuple[int, int, int]) -> nn.Module:
    """PNASNet-5; ``size`` is (stem channels, N, F) of section 5.2."""
    stem, cells, filters = size
    f = 5 * filters  # A cell concatenates five blocks.
    first = [5 * (filters // 2)] + [f] * cells
    network = library.PNASNet(
        [first, [2 * f] * cells, [4 * f] * cells], stem, 5 * (filters // 4)
    )
    for module in network.modules():
        if isinstance(module, library.NasPathBlock):
            # Both of the library's halves of an odd number round down.
            rest = module.bn.num_features - module.path1.conv.out_channels
            conv = module.path2.conv
            module.path2.conv = library.conv1x1(conv.in_channels, rest)
    return network


# arch -> family, and a function that builds it from the library's module.
ARCHITECTURES: dict[str, tuple[str, Callable[[ModuleType], nn.Module]]] = {
    'igcv3_d_x0_7': ('IGCV3', partial(_igcv3, widen_factor=0.7)),
    'igcv3_d_x1_0': ('IGCV3', partial(_igcv3, widen_factor=1.0)),
    'igcv3_d_x1_4': ('IGCV3', partial(_igcv3, widen_factor=1.4)),
    'condensenet_g4_c4': ('CondenseNet', methodcaller('condensenet74_c4_g4')),
    'condensenet_g8_c8': ('CondenseNet', methodcaller('condensenet74_c8_g8')),
    'nasnet_a_4_1056': ('NASNet', methodcaller('nasnet_4a1056')),
    'pnasnet_5_mobile': ('PNASNet', partial(_pnasnet, size=(32, 3, 54))),
    'pnasnet_5_large': ('PNASNet', partial(_pnasnet, size=(96, 4, 216))),
    'senet_154': ('SENet', methodcaller('senet154')),
}


@MODELS.register_module()
class PytorchcvBackbone(StagedBackbone):
    """A network of the pytorchcv library as a backbone.

    Reads the library's pretrained weights as well as its own.
    Levels: 0 stage1, 1 stage2, 2 stage3 and 3 stage4, at strides 4, 8, 16
    and 32; IGCV3-D also has 4 conv5, at stride 32.

    Args:
        arch: a key of `ARCHITECTURES`.
        norm_cfg: normalisation; None means the library's BN.
        channels_last: as in `StagedBackbone`; CondenseNet, NASNet and PNASNet
            do not support True.
        out_indices, staged: as in `StagedBackbone`; strides and dilations
            are fixed.
    """

    # Prefix of the keys of `ARCHITECTURES`, left out in ``arch``.
    prefix = ''

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] = (1, 2, 3),
        norm_cfg: dict | None = None,
        channels_last: bool | None = None,
        **staged,
    ):
        names = [a for a in ARCHITECTURES if a.startswith(self.prefix)]
        choices = [a.removeprefix(self.prefix) for a in names]
        self.arch = check_choice('arch', arch, choices)
        arch = self.prefix + self.arch
        self.family, _ = ARCHITECTURES[arch]
        if self.family in PADDED:
            check_choice(
                f'channels_last of arch {arch!r}', channels_last, (None, False)
            )
            channels_last = False
        features = _network(arch).features.eval()
        stem, *stages = (
            _units(features, blocks.split('+'))
            for blocks in LEVELS[self.family].split()
        )
        names = ['stage1', 'stage2', 'stage3', 'stage4', 'conv5']
        super().__init__(
            names[: len(stages)],
            out_indices,
            channels_last=channels_last,
            norm_cfg=norm_cfg,
            **staged,
        )
        self.strides_and_dilations((2,) * 4, fixed=True)
        # Runs the network on the meta device to learn its channels.
        x = torch.empty(1, 3, 64, 64, device='meta')
        for unit in stem:
            x = unit(x)
        self.stem = nn.Sequential(*(_real(unit, norm_cfg) for unit in stem))
        # stage_names ends with the last level to return.
        for name, units, reduction in zip(
            self.stage_names, stages, (4, 8, 16, 32, 32), strict=False
        ):
            if self.family in CELLS:
                units = [CellWithPrevious(unit) for unit in units]
            for unit in units:
                x = unit(x)
            channels = (x[0] if self.family in CELLS else x).shape[1]
            units = [_real(unit, norm_cfg) for unit in units]
            self.add_stage(name, units, channels, reduction)
        self.freeze_stages()

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The family's formats; the network itself provides library names."""
        own, library = super().formats
        names = partial(_module_names, self.prefix + self.arch)
        return own, replace(library, modules=names)

    @classmethod
    def family_in(cls, config: Mapping) -> str:
        """The family of a config's ``arch``; does not need the library."""
        return ARCHITECTURES[cls.prefix + config.get('arch', 'mobile')][0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of images of any size, padded at the right and bottom."""
        if self.family not in PADDED:
            return super().forward(x)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR))
        # In channels-last layout, the backward pass of a strided pointwise
        # convolution with few channels writes out of bounds (oneDNN #6035).
        x = x.contiguous()
        return tuple(
            feature[..., : -(-height // stride), : -(-width // stride)]
            for feature, stride in zip(
                super().forward(x), self.strides, strict=True
            )
        )

    def feature(self, state: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """A stage's output; of cells, after the next cell's activation."""
        return F.relu(state[0]) if isinstance(state, tuple) else state


@MODELS.register_module()
class PNASNet(PytorchcvBackbone):
    """PNASNet-5, ``'mobile'`` (N = 3, F = 54) or ``'large'`` (4, 216)."""

    prefix = 'pnasnet_5_'

    def __init__(self, arch: str = 'mobile', **options):
        super().__init__(arch, **options)


class ChannelShuffle(nn.Module):
    """`channel_shuffle` as a module, to replace the library's."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)


class CellWithPrevious(nn.Module):
    """A library cell that passes (output, input) on as one state."""

    def __init__(self, unit: nn.Module):
        super().__init__()
        self.unit = unit

    def forward(
        self, state: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The cell's output, and its input for the next cell."""
        if not isinstance(state, tuple):
            return self.unit(state), state
        return self.unit(*state), state[0]


@cache
def _module_names(arch: str) -> dict[str, str]:
    """Our name -> the library's, for every module with weights."""
    levels = range(LEVELS[ARCHITECTURES[arch][0]].count(' '))
    with torch.device('meta'):
        ours = PytorchcvBackbone(arch, out_indices=levels).state_dict()
    theirs = _network(arch).features.state_dict()
    # Both have the same modules in the same order.
    return {
        a.rpartition('.')[0]: f'features.{b.rpartition(".")[0]}'
        for a, b in zip(ours, theirs, strict=True)
    }


def _network(arch: str) -> nn.Module:
    """The library's network on the meta device."""
    family, build = ARCHITECTURES[arch]
    try:
        library = import_module(f'pytorchcv.models.{family.lower()}')
    except ImportError as error:
        raise MissingLibrary(
            f'arch {arch!r} is a network of the optional library pytorchcv; '
            f"install it with: pip install '{REQUIREMENT}'"
        ) from error
    with torch.device('meta'):
        return build(library)


def _units(features: nn.Module, blocks: Sequence[str]) -> list[nn.Module]:
    """The named blocks in order, with stages split into their units."""
    units = []
    for name in blocks:
        block = getattr(features, name)
        units += block if isinstance(block, nn.Sequential) else [block]
    return units


def _real(unit: nn.Module, norm_cfg: dict | None) -> nn.Module:
    """Initialise a meta unit, and swap in our shuffle and ``norm_cfg``."""
    # Not get_default_device: torch 2.4's ignores `with torch.device(...)`.
    unit.to_empty(device=torch.empty(0).device).train()
    for module in list(unit.modules()):
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
        if isinstance(getattr(module, 'index', None), Tensor):
            # The channels that CondenseNet's groups read until they are
            # learned: in turn, so that every group reads from every unit.
            order = torch.arange(module.index.numel())
            order = order.unflatten(0, (-1, module.conv.groups))
            module.index = order.T.flatten()
        for name, child in module.named_children():
            if type(child).__name__ == 'ChannelShuffle':
                setattr(module, name, ChannelShuffle(child.groups))
            elif norm_cfg and isinstance(child, nn.BatchNorm2d):
                config = {'eps': child.eps, **norm_cfg}
                norm = build_norm_layer(config, child.num_features)[1]
                setattr(module, name, norm)
    return unit
