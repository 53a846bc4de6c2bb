"""Backbone, neck and RPN for export, with channel shuffles folded away.

A channel shuffle is a permutation, so instead of moving channels we permute
the weights that read them. A unit's last convolution outputs its channels in
pieces, one for each unit that will transform them, and a unit reads a
concatenation of pieces. Pieces are padded with zeros to multiples of 16, the
block size of ONNX Runtime's NCHWc layout, so that maps stay in that layout.

An ``Order`` maps channels to the original's channels; -1 is a zero channel.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn

from ..backbones.shufflenet_v2 import ShuffleNetV2, ShuffleUnit
from ..errors import UserError

BLOCK = 16
# Smaller pieces are merged with the next one.
SMALLEST_PIECE = 12

Order = list[int]


def padded(order: Iterable[int]) -> Order:
    order = list(order)
    return order + [-1] * (-len(order) % BLOCK)


def pick(values: Tensor, order: Order, dim: int = 0) -> Tensor:
    """Select entries of ``values`` in this order, with zeros for -1."""
    index = torch.tensor(order)
    picked = values.detach().index_select(dim, index.clamp(min=0))
    shape = [1] * values.dim()
    shape[dim] = -1
    return picked * (index >= 0).view(shape)


def reordered(conv: nn.Conv2d, source: Order, target: Order) -> nn.Conv2d:
    """Copy a dense or depthwise convolution, with channels in these orders."""
    weight = pick(conv.weight, target)
    inputs = groups = len(target)
    if conv.groups == 1:
        weight = pick(weight, source, 1)
        inputs, groups = len(source), 1
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    folded = nn.Conv2d(inputs, len(target), *shape, groups)
    folded.weight.data = weight
    folded.bias.data = weight.new_zeros(len(target))
    if conv.bias is not None:
        folded.bias.data = pick(conv.bias, target)
    return folded


def all_reordered(module: nn.Module, orders: dict[int, Order]) -> nn.Module:
    """Copy a module, with maps of n channels in the order ``orders[n]``."""
    module = fuse_conv_bn(copy.deepcopy(module))
    for name, layer in list(module.named_modules()):
        if 'Norm' in type(layer).__name__:
            raise UserError(
                'cannot be exported: expected batch norm after the '
                f"detector's convolutions, got {type(layer).__name__}"
            )
        if isinstance(layer, nn.Conv2d):
            ends = (
                orders.get(count, list(range(count)))
                for count in (layer.in_channels, layer.out_channels)
            )
            parent, _, child = name.rpartition('.')
            parent = module.get_submodule(parent)
            setattr(parent, child, reordered(layer, *ends))
    return module


def layers_of(*modules: nn.Module) -> list[list]:
    """List [convolution, whether a ReLU follows] pairs.

    Raises:
        NotImplementedError: There is another kind of layer.
    """
    layers = []
    for leaf in (leaf for module in modules for leaf in module.modules()):
        if next(leaf.children(), None) or isinstance(leaf, nn.Identity):
            continue
        groups = getattr(leaf, 'groups', 0)
        if groups and groups in (1, leaf.in_channels):
            layers.append([leaf, False])
        elif isinstance(leaf, nn.ReLU) and layers:
            layers[-1][1] = True
        else:
            raise NotImplementedError(leaf)
    return layers


class Chain(nn.Module):
    """A chain of convolutions that outputs its channels in pieces."""

    def __init__(
        self, layers: list[list], source: Order, pieces: Sequence[Order]
    ):
        super().__init__()
        self.inner = nn.Sequential()
        *inner, (last, self.relu) = layers
        for conv, relu in inner:
            is_dense = conv.groups == 1
            target = padded(range(conv.out_channels)) if is_dense else source
            self.inner.append(reordered(conv, source, target))
            if relu:
                self.inner.append(nn.ReLU())
            source = target
        self.last = nn.ModuleList(
            reordered(last, source, piece) for piece in pieces
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.inner(x)
        pieces = [conv(x) for conv in self.last]
        return [piece.relu() for piece in pieces] if self.relu else pieces


class Stage(nn.Module):
    """A stage without shuffles; ``order`` is the order of its output.

    Channels are identified by (index of the chain that outputs them, index in
    its output).
    """

    def __init__(self, units: Sequence[ShuffleUnit], source: Order):
        super().__init__()
        chains = [layers_of(units[0].branch1)]
        for unit in units:
            if not isinstance(unit.se, nn.Identity) or unit.with_residual:
                raise NotImplementedError('SE or a residual')
            chains.append(layers_of(unit.enlarge, unit.branch2, unit.activate))
        names = [
            [(i, channel) for channel in range(layers[-1][0].out_channels)]
            for i, layers in enumerate(chains)
        ]
        # The channels that each unit after the first transforms, and last the
        # channels of the output.
        passed, reads = names[0], []
        for unit, main in zip(units, names[1:], strict=True):
            if unit.shuffle_first:
                output = passed + main
                passed, read = output[::2], output[1::2]
            else:
                pairs = zip(passed, main, strict=True)
                output = [name for pair in pairs for name in pair]
                half = len(output) // 2
                passed, read = output[:half], output[half:]
            reads.append(read)
        reads[-1] = output
        reader = {name: i for i, read in enumerate(reads) for name in read}
        pieces, emitted = [], []
        for channels in names:
            first = len(pieces)
            for name in sorted(channels, key=reader.get):
                if len(pieces) == first or (
                    reader[name] != reader[pieces[-1][-1]]
                    and len(pieces[-1]) >= SMALLEST_PIECE
                ):
                    pieces.append([])
                pieces[-1].append(name)
            emitted.append([padded(j for _, j in p) for p in pieces[first:]])

        def order(read: list, chosen: list[int]) -> Order:
            """Index in ``read`` of each channel of the chosen pieces."""
            place = {name: i for i, name in enumerate(read)}
            return [
                channel
                for i in chosen
                for channel in padded(place.get(n, -1) for n in pieces[i])
            ]

        *self.reads, final = (
            [i for i, piece in enumerate(pieces) if {*read} & {*piece}]
            for read in reads
        )
        sources = map(order, reads, self.reads)
        self.chains = nn.ModuleList(
            map(Chain, chains, [source, source, *sources], emitted)
        )
        # Only part of a piece's channels may belong to the output. An identity
        # convolution packs such pieces: cheaper than reading zeros later.
        fill = [len({*output} & {*p}) / len(padded(p)) for p in pieces]
        self.kept = [i for i in final if fill[i] >= 0.8]
        self.packed = [i for i in final if fill[i] < 0.8]
        self.order = order(output, self.kept)
        if self.packed:
            identity = nn.Conv2d(len(output), len(output), 1, bias=False)
            nn.init.dirac_(identity.weight)
            source = order(output, self.packed)
            target = padded(channel for channel in source if channel >= 0)
            self.pack = reordered(identity, source, target)
            self.order += target

    def forward(self, x: Tensor) -> Tensor:
        first, second, *others = self.chains
        pieces = first(x) + second(x)
        for chain, reads in zip(others, self.reads, strict=True):
            pieces += chain(torch.cat([pieces[i] for i in reads], 1))
        output = [pieces[i] for i in self.kept]
        if self.packed:
            packed = torch.cat([pieces[i] for i in self.packed], 1)
            output.append(self.pack(packed))
        return torch.cat(output, 1)


class Backbone(nn.Module):
    """ShuffleNet V2 or SNet without shuffles; ``orders`` are its maps' orders.

    Raises:
        NotImplementedError: The units contain layers besides convolutions.
    """

    def __init__(self, backbone: ShuffleNetV2):
        super().__init__()
        backbone = fuse_conv_bn(copy.deepcopy(backbone))
        count = layers_of(backbone.conv1)[-1][0].out_channels
        order, orders = padded(range(count)), []
        self.stem = all_reordered(backbone.conv1, {count: order})
        self.maxpool = backbone.maxpool
        self.stages = nn.ModuleList()
        for name in backbone.stage_names:
            stage = getattr(backbone, name)
            if name == 'conv5':
                stage = all_reordered(stage, {max(order) + 1: order})
                order = list(range(stage[0].out_channels))
            else:
                stage = Stage(list(stage), order)
                order = stage.order
            self.stages.append(stage)
            orders.append(order)
        self.out_indices = backbone.out_indices
        self.orders = [orders[index] for index in self.out_indices]

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.maxpool(self.stem(x)), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[index] for index in self.out_indices]


class Folded(nn.Module):
    """The network from the image to the RoI map and the RPN's outputs.

    Args:
        detector: A two-stage detector with a neck of this project.
        map_order: The order of the map's channels.
    """

    def __init__(self, detector: nn.Module, map_order: Order):
        super().__init__()
        neck, self.backbone = detector.neck, detector.backbone
        maps = [list(range(count)) for count in neck.in_channels]
        # Variants whose units contain other layers are exported unchanged.
        if isinstance(self.backbone, ShuffleNetV2):
            with suppress(NotImplementedError):
                self.backbone = Backbone(self.backbone)
                maps = self.backbone.orders
        orders = {neck.out_channels: map_order}
        for count, order in zip(neck.in_channels, maps, strict=True):
            if orders.setdefault(count, order) != order:
                raise UserError(
                    'cannot be exported: expected backbone maps with '
                    f'different numbers of channels, got two with {count}'
                )
        self.neck = all_reordered(neck, orders)
        self.rpn_head = all_reordered(detector.rpn_head, orders)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the RoI map, scores (N, A, h, w) and deltas (N, 4A, h, w)."""
        maps = self.neck(self.backbone(x))
        (scores,), (deltas,) = self.rpn_head(maps)
        return maps[0], scores, deltas
