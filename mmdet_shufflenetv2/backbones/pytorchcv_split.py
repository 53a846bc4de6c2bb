"""Split a network of pytorchcv into levels, and make their units real."""

from dataclasses import dataclass, field

import torch
import torch.nn as nn
from mmcv.cnn import build_norm_layer
from torch import Tensor

from .channel_shuffle import channel_shuffle

# Stages are called by their strides, as in the other families.
NAMES = {4: 'stage1', 8: 'stage2', 16: 'stage3', 32: 'stage4'}
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


@dataclass
class Level:
    """Units that emit maps of one size.

    Attributes:
        name: ``'stem'``, a stage or ``'conv5'``.
        reduction: pixels of the image per pixel of the map, per side.
        out_channels: channels that the last unit emits.
        units: on the meta device, by their names in the library.
    """

    name: str
    reduction: int
    out_channels: int = 0
    units: dict[str, nn.Module] = field(default_factory=dict)

    def build(self, norm_cfg: dict | None) -> list[nn.Module]:
        """The units with fresh weights, where tensors are made by default.

        Args:
            norm_cfg: type of normalisation; None means the library's.
        """
        return [_real(unit, norm_cfg) for unit in self.units.values()]

    def module_names(self) -> dict[str, str]:
        """Of every module that has weights, our name -> the library's."""
        names = {}
        for index, (theirs, unit) in enumerate(self.units.items()):
            ours = f'{self.name}.{index}'
            if isinstance(unit, CellWithPrevious):
                ours, unit = f'{ours}.unit', unit.unit
            for inner, module in unit.named_modules():
                if module._parameters or module._buffers:
                    names[f'{ours}.{inner}'] = f'{theirs}.{inner}'
        return names


def split_by_stride(
    features: nn.Sequential, with_previous: bool
) -> list[Level]:
    """A network's stem, stages and last convolution.

    Args:
        features: of the library, on the meta device.
        with_previous: units behind the stem also read the input of the unit
            before.
    """
    state = torch.empty(1, 3, SIDE, SIDE, device='meta')
    levels = [Level('stem', 2)]
    for name, unit in _units(features):
        if with_previous and levels[0].units:
            unit = CellWithPrevious(unit)
        state = unit.eval()(state)
        output = state[0] if isinstance(state, tuple) else state
        # Unpadded layers leave a little less than half.
        reduction = round(SIDE / output.shape[-1])
        if name == LAST_CONVOLUTION:
            levels.append(Level('conv5', reduction))
        elif reduction > levels[-1].reduction and levels[0].units:
            levels.append(Level(NAMES[reduction], reduction))
        levels[-1].units[name] = unit
        levels[-1].out_channels = output.shape[1]
    return levels


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
    unit.to_empty(device=torch.get_default_device()).train()
    for module in list(unit.modules()):
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
        if isinstance(getattr(module, 'index', None), Tensor):
            module.index = _dealt(module.index.numel(), module.conv.groups)
        for name, child in module.named_children():
            if type(child).__name__ == 'ChannelShuffle':
                setattr(module, name, ChannelShuffle(child.groups))
            elif norm_cfg and isinstance(child, nn.BatchNorm2d):
                config = dict(eps=child.eps, **norm_cfg)
                norm = build_norm_layer(config, child.num_features)[1]
                setattr(module, name, norm)
    return unit


def _dealt(channels: int, groups: int) -> Tensor:
    """Which channels CondenseNet's groups read as long as none are learned.

    The library leaves the first channel to all of them. Dealt out in turn,
    every group reads some of the output of every earlier unit.
    """
    return torch.arange(channels).unflatten(0, (-1, groups)).T.flatten()
