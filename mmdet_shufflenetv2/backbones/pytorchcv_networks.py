"""Networks of the library pytorchcv, as levels.

Papers: IGCV3, https://arxiv.org/abs/1806.00178; CondenseNet,
https://arxiv.org/abs/1711.09224; NASNet, https://arxiv.org/abs/1707.07012;
PNASNet-5, https://arxiv.org/abs/1712.00559; SENet,
https://arxiv.org/abs/1709.01507.
Library: https://github.com/osmr/pytorchcv (MIT), version 0.0.74; optional,
and imported when a network is built.
What differs from the library: images may have any size; IGCV3-D rounds its
channels as MobileNet V2 does; CondenseNet's learned groups start as plain.
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
# family -> the library's blocks: of the stem, of the stages from stride 4 on,
# and of conv5. What it has besides is its poolings for one size of images,
# and the last activation of cells.
LEVELS = {
    'IGCV3': 'init_block+stage1 stage2 stage3 stage4 stage5 final_block',
    'CondenseNet': 'init_block+stage1 stage2 stage3 stage4 stage5+post_activ',
    'NASNet': 'init_block stem1_unit stem2_unit+stage1 stage2 stage3',
    'PNASNet': 'init_block stem1_unit stage1 stage2 stage3',
    'SENet': 'init_block stage1 stage2 stage3 stage4',
}
# Their cells also read the input of the cell before.
CELLS = ('NASNet', 'PNASNet')
# Their poolings round down, so images are padded; they compute contiguously.
PADDED = ('CondenseNet', *CELLS)
SIZE_DIVISOR = 32


class MissingLibrary(UserError, ImportError):
    """An optional library that a network is taken from is not installed."""


def _igcv3(library: ModuleType, widen_factor: float) -> nn.Module:
    """IGCV3-D (section 4.1) of any width, in multiples of 8 channels.

    The library's even numbers are further off the published multiply-adds.
    """

    def scaled(channels: int) -> int:
        return make_divisible(channels * widen_factor, 8)

    # Of each unit, per stage.
    stages = (16,), (24,) * 4, (32,) * 6, (64,) * 8 + (96,) * 6
    stages += ((160,) * 6 + (320,),)
    return library.IGCV3(
        channels=[[scaled(width) for width in stage] for stage in stages],
        init_block_channels=scaled(32),
        final_block_channels=max(1280, scaled(1280)),
    )


def _pnasnet(library: ModuleType, size: tuple[int, int, int]) -> nn.Module:
    """PNASNet-5 of a stem, N cells and F filters (section 5.2).

    A cell has five blocks.
    """
    stem, cells, filters = size
    f = 5 * filters
    first = [5 * (filters // 2)] + [f] * cells
    network = library.PNASNet(
        [first, [2 * f] * cells, [4 * f] * cells], stem, 5 * (filters // 4)
    )
    for module in network.modules():
        if isinstance(module, library.NasPathBlock):
            # The library halves an odd number of channels twice.
            rest = module.bn.num_features - module.path1.conv.out_channels
            conv = module.path2.conv
            module.path2.conv = library.conv1x1(conv.in_channels, rest)
    return network


# arch -> family, and what makes the network from the library's module of it.
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
    """A network of the library pytorchcv as a backbone.

    Levels: 0 stage1, 1 stage2, 2 stage3 and 3 stage4, at strides 4, 8, 16
    and 32; IGCV3-D also has 4 conv5, at stride 32.

    Args:
        arch: a key of `ARCHITECTURES`.
        norm_cfg: type of normalisation; None means the library's BN.
        channels_last: memory layout; None means on the CPU only.
            CondenseNet, NASNet and PNASNet have no choice but False.
        out_indices, staged: as in `StagedBackbone`; strides and dilations
            are fixed. Pretrained weights may be the library's.
    """

    # Of the keys, which `arch` lacks.
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
        # Without values, which costs next to nothing.
        x = torch.empty(1, 3, 64, 64, device='meta')
        for unit in stem:
            x = unit(x)
        self.stem = nn.Sequential(*(_real(unit, norm_cfg) for unit in stem))
        # Ends with the last level asked for.
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
        """Those of the family; the library itself tells its names."""
        own, library = super().formats
        names = partial(_module_names, self.prefix + self.arch)
        return own, replace(library, modules=names)

    @classmethod
    def family_in(cls, config: Mapping) -> str:
        """The family of ``arch``, without the library."""
        return ARCHITECTURES[cls.prefix + config.get('arch', 'mobile')][0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of images of any size, which are padded as mmdet does."""
        if self.family not in PADDED:
            return super().forward(x)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR))
        # Channels-last, the backward pass of a strided pointwise convolution
        # of few channels writes where it must not (oneDNN's issue 6035).
        x = x.contiguous()
        return tuple(
            feature[..., : -(-height // stride), : -(-width // stride)]
            for feature, stride in zip(
                super().forward(x), self.strides, strict=True
            )
        )

    def feature(self, state: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """A stage's output; of cells, with the next cell's activation."""
        return F.relu(state[0]) if isinstance(state, tuple) else state


@MODELS.register_module()
class PNASNet(PytorchcvBackbone):
    """PNASNet-5, ``'mobile'`` (N = 3, F = 54) or ``'large'`` (4, 216)."""

    prefix = 'pnasnet_5_'

    def __init__(self, arch: str = 'mobile', **options):
        super().__init__(arch, **options)


class ChannelShuffle(nn.Module):
    """`channel_shuffle` in the place of the library's."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)


class CellWithPrevious(nn.Module):
    """The library's cell, with its input and the one before it as state."""

    def __init__(self, unit: nn.Module):
        super().__init__()
        self.unit = unit

    def forward(
        self, state: Tensor | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The cell's output, and its input for the cell after it."""
        if not isinstance(state, tuple):
            return self.unit(state), state
        return self.unit(*state), state[0]


@cache
def _module_names(arch: str) -> dict[str, str]:
    """Of every module that has weights, our name -> the library's."""
    levels = range(LEVELS[ARCHITECTURES[arch][0]].count(' '))
    with torch.device('meta'):
        ours = PytorchcvBackbone(arch, out_indices=levels).state_dict()
    theirs = _network(arch).features.state_dict()
    # The same modules in the same order.
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
    """Of a stage its units, of another block itself."""
    units = []
    for name in blocks:
        block = getattr(features, name)
        units += block if isinstance(block, nn.Sequential) else [block]
    return units


def _real(unit: nn.Module, norm_cfg: dict | None) -> nn.Module:
    """A unit with values, and with this package's own modules in it."""
    # Not get_default_device: torch 2.4's overlooks `with torch.device(...)`.
    unit.to_empty(device=torch.empty(0).device).train()
    for module in list(unit.modules()):
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
        if isinstance(getattr(module, 'index', None), Tensor):
            # The channels that CondenseNet's groups read as long as none are
            # learned: in turn, so that every group reads of every unit.
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
