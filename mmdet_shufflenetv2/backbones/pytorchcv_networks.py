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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from types import ModuleType

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from ..compat.foreign_checkpoints import CheckpointFormat
from ..compat.foreign_families import FAMILIES
from ..compat.input_format import NORMALISED_RGB
from ..errors import UserError
from .base import StagedBackbone
from .pytorchcv_split import Level, split_by_stride
from .stages import Stage, check_fixed

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
        out_indices: levels to return, ascending. Nothing behind the last
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
        check_fixed('strides', strides, 2, STAGES)
        check_fixed('dilations', dilations, 1, STAGES)
        architecture = ARCHITECTURES[arch]
        if not architecture.any_layout:
            check_choice(
                f'channels_last of arch {arch!r}', channels_last, (None, False)
            )
            channels_last = False
        features = _network(arch).features
        stem, *levels = _levels(arch)
        super().__init__(
            stem=nn.Sequential(*stem.build(features, norm_cfg)),
            levels=[
                Stage(
                    level.name,
                    level.out_channels,
                    level.reduction,
                    partial(level.build, features, norm_cfg),
                )
                for level in levels
            ],
            out_indices=out_indices,
            channels_last=channels_last,
            **staged,
        )
        self.architecture = architecture
        self.checkpoint_formats = _formats(arch)

    @classmethod
    def formats_for(cls, config: Mapping) -> tuple[CheckpointFormat, ...]:
        """Those of ``arch``; the library is needed to translate names."""
        return _formats(config['arch'])

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
def _formats(arch: str) -> tuple[CheckpointFormat, ...]:
    architecture = ARCHITECTURES[arch]
    own, library = FAMILIES[architecture.family]
    library = replace(
        library,
        modules=partial(_module_names, arch),
        classifier=architecture.classifier,
        input_format=NORMALISED_RGB,
    )
    return own, library


def _module_names(arch: str) -> dict[str, str]:
    """Of every module that has weights, our name -> the library's."""
    features = _network(arch).features
    return {
        ours: f'features.{theirs}'
        for level in _levels(arch)
        for ours, theirs in level.module_names(features).items()
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
