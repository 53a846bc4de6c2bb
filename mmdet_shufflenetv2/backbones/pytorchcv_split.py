"""Split a network of pytorchcv into levels, and make their units real."""

from dataclasses import dataclass, replace

import torch
import torch.nn as nn
from mmcv.cnn import build_norm_layer
from torch import Tensor

from .channel_shuffle import channel_shuffle

# Levels are called by their strides, as in the other families.
NAMES = {2: 'stem', 4: 'stage1', 8: 'stage2', 16: 'stage3', 32: 'stage4'}
# What the library has behind the last stage: a level of its own, or nothing
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

    def module_names(self, features: nn.Module) -> dict[str, str]:
        """Of every module that has weights, our name -> the library's."""
        names = {}
        for index, theirs in enumerate(self.units):
            ours = f'{self.name}.{index}'
            if self.with_previous:
                ours += '.unit'
            unit = features.get_submodule(theirs)
            for inner, module in unit.named_modules():
                if module._parameters or module._buffers:
                    names[f'{ours}.{inner}'] = f'{theirs}.{inner}'
        return names


def split_by_stride(
    features: nn.Sequential, with_previous: bool
) -> tuple[Level, ...]:
    """A network's stem, stages and last convolution.

    Args:
        features: of the library's network on the meta device.
        with_previous: units behind the stem also read the input of the unit
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
            # Some have a pool in it, behind which the first stage begins.
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
            module.index = _dealt(module.index.numel(), module.conv.groups)
        for name, child in module.named_children():
            if type(child).__name__ == 'ChannelShuffle':
                setattr(module, name, ChannelShuffle(child.groups))
            elif norm_cfg and isinstance(child, nn.BatchNorm2d):
                config = {'eps': child.eps, **norm_cfg}
                norm = build_norm_layer(config, child.num_features)[1]
                setattr(module, name, norm)
    return unit


def _dealt(channels: int, groups: int) -> Tensor:
    """Which channels CondenseNet's groups read as long as none are learned.

    The library leaves the first channel to all of them. Dealt out in turn,
    every group reads some of the output of every earlier unit.
    """
    return torch.arange(channels).unflatten(0, (-1, groups)).T.flatten()
