"""Backbone, neck and RPN as a file wants them: norms and shuffles folded.

A channel shuffle is a permutation, so nothing has to move: weights follow the
order in which channels arrive. A unit's last convolution emits its channels
in pieces, by the unit that will transform them, and what a unit reads is the
concatenation of pieces. Pieces are filled with zeros to blocks of 16, the
layout in which ONNX Runtime computes (NCHWc), so that no map leaves it.

An order lists which of the original's channels each channel is; -1 is zeros.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..backbones.shufflenet_v2 import ShuffleNetV2, ShuffleUnit
from ..backbones.snet import SNet
from ..detection import LightHeadNeck, RFCNNeck, ThunderNetNeck
from ..errors import UserError

BLOCK = 16
# Fewer channels than this wait in one piece with others.
SMALLEST_PIECE = 12
# Multiply-adds at a place that one more channel costs the layers after a
# stage, about: the RPN's convolution alone has 9 * 256.
READERS = 1000

Order = list[int]


def padded(order: Iterable[int], block: int = BLOCK) -> Order:
    order = list(order)
    return order + [-1] * (-len(order) % block)


def pick(values: Tensor, order: Order, dim: int = 0) -> Tensor:
    """Entries of ``values`` in this order, and zeros for -1."""
    index = torch.tensor(order)
    picked = values.detach().index_select(dim, index.clamp(min=0))
    shape = [1] * values.dim()
    shape[dim] = -1
    return picked * (index >= 0).view(shape)


def reordered(
    conv: nn.Conv2d, source: Order, target: Order, norm=None
) -> nn.Conv2d:
    """A convolution, its norm folded, between channels in these orders."""
    weight, bias = conv.weight, conv.bias
    if bias is None:
        bias = torch.zeros(len(weight))
    if norm is not None:
        if not isinstance(norm, _BatchNorm):
            raise UserError(
                'cannot be exported: expected batch norm after the '
                f"detector's convolutions, got {type(norm).__name__}"
            )
        statistics = norm.running_mean, norm.running_var, norm.eps
        weight, bias = fuse_conv_bn_weights(
            weight, bias, *statistics, norm.weight, norm.bias
        )
    weight = pick(weight, target)
    groups = 1 if conv.groups == 1 else len(target)
    if groups == 1:
        weight = pick(weight, source, 1)
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    inputs = len(source) if groups == 1 else groups
    folded = nn.Conv2d(inputs, len(target), *shape, groups)
    folded.weight.data, folded.bias.data = weight, pick(bias, target)
    return folded


def layers_of(*modules: nn.Module) -> list[list]:
    """Convolutions, the norm after each, and whether a ReLU follows.

    Raises:
        NotImplementedError: There is another kind of layer.
    """
    layers = []
    for module in modules:
        for leaf in module.modules():
            if next(leaf.children(), None) or isinstance(leaf, nn.Identity):
                continue
            if isinstance(leaf, nn.Conv2d):
                if leaf.groups not in (1, leaf.in_channels):
                    raise NotImplementedError(leaf)
                layers.append([leaf, None, False])
            elif isinstance(leaf, _BatchNorm) and layers:
                layers[-1][1] = leaf
            elif isinstance(leaf, nn.ReLU) and layers:
                layers[-1][2] = True
            else:
                raise NotImplementedError(leaf)
    return layers


class Chain(nn.Module):
    """Convolutions in order; the last one emits its channels in pieces."""

    def __init__(
        self, layers: list[list], source: Order, pieces: Sequence[Order]
    ):
        super().__init__()
        self.inner = nn.Sequential()
        *inner, (last, norm, self.relu) = layers
        for conv, inner_norm, relu in inner:
            is_dense = conv.groups == 1
            target = padded(range(conv.out_channels)) if is_dense else source
            self.inner.append(reordered(conv, source, target, inner_norm))
            if relu:
                self.inner.append(nn.ReLU())
            source = target
        self.last = nn.ModuleList(
            reordered(last, source, piece, norm) for piece in pieces
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.inner(x)
        pieces = [conv(x) for conv in self.last]
        return [piece.relu() for piece in pieces] if self.relu else pieces


class Stage(nn.Module):
    """A stage of shuffle units without a shuffle.

    Channels have names here: which chain emitted them, and their place in
    its output.
    """

    def __init__(self, units: Sequence[ShuffleUnit], source: Order):
        super().__init__()
        first, *others = units
        chains = [layers_of(first.branch1)]
        for unit in units:
            if not isinstance(unit.se, nn.Identity) or unit.with_residual:
                raise NotImplementedError('SE or a residual')
            chains.append(layers_of(unit.enlarge, unit.branch2, unit.activate))
        names = [
            [(i, channel) for channel in range(layers[-1][0].out_channels)]
            for i, layers in enumerate(chains)
        ]
        # What the unit before hands on, and when each channel is read.
        line = self._joined(first, names[0], names[1])
        read_at, mains = {}, []
        for number, unit in enumerate(others):
            if unit.shuffle_first:
                passed, main = line[::2], line[1::2]
            else:
                half = len(line) // 2
                passed, main = line[:half], line[half:]
            read_at |= dict.fromkeys(main, number)
            mains.append(main)
            line = self._joined(unit, passed, names[number + 2])
        read_at |= dict.fromkeys(line, len(others))
        pieces, emitted = [], []
        for channels in names:
            groups = []
            for name in sorted(channels, key=read_at.get):
                ends = groups and read_at[name] != read_at[groups[-1][-1]]
                if not groups or (ends and len(groups[-1]) >= SMALLEST_PIECE):
                    groups.append([])
                groups[-1].append(name)
            emitted.append([padded(j for _, j in group) for group in groups])
            pieces += groups
        self.reads, sources = [], []
        for main in mains:
            place = {name: i for i, name in enumerate(main)}
            reads = [
                i for i, piece in enumerate(pieces) if place.keys() & piece
            ]
            self.reads.append(reads)
            sources.append(self._order(pieces, reads, place))
        self.chains = nn.ModuleList(
            map(Chain, chains, [source, source, *sources], emitted)
        )
        self._collect(pieces, line)

    @staticmethod
    def _joined(unit: ShuffleUnit, passed: list, main: list) -> list:
        if unit.shuffle_first:
            return passed + main
        return [
            name for pair in zip(passed, main, strict=True) for name in pair
        ]

    @staticmethod
    def _order(pieces: list, reads: list[int], place: dict) -> Order:
        return [
            channel
            for i in reads
            for channel in padded(place.get(name, -1) for name in pieces[i])
        ]

    def _collect(self, pieces: list, line: list) -> None:
        """Choose which pieces are the output, and which of them to pack.

        A piece of which few channels are left is packed with others by a
        convolution of ones, where that costs less than reading zeros.
        """
        place = {name: i for i, name in enumerate(line)}
        left = [len(place.keys() & piece) for piece in pieces]
        live = sorted(filter(left.__getitem__, range(len(left))))
        live.sort(key=left.__getitem__, reverse=True)

        def cost(kept: int) -> int:
            whole = sum(len(padded(pieces[i])) for i in live[:kept])
            read = sum(len(padded(pieces[i])) for i in live[kept:])
            packed = len(padded(range(sum(left[i] for i in live[kept:]))))
            return (whole + packed) * READERS + read * packed

        kept = min(range(len(live), -1, -1), key=cost)
        self.kept, self.packed = live[:kept], live[kept:]
        self.order = self._order(pieces, self.kept, place)
        self.pack = None
        if self.packed:
            source = self._order(pieces, self.packed, place)
            target = padded(channel for channel in source if channel >= 0)
            self.pack = nn.Conv2d(len(source), len(target), 1, bias=False)
            rows, source = torch.tensor(target)[:, None], torch.tensor(source)
            same = (rows == source) & (rows >= 0)
            self.pack.weight.data = same.float()[..., None, None]
            self.order = self.order + target

    def forward(self, x: Tensor) -> list[Tensor]:
        first, second, *others = self.chains
        pieces = first(x) + second(x)
        for chain, reads in zip(others, self.reads, strict=True):
            pieces += chain(concatenated([pieces[i] for i in reads]))
        output = [pieces[i] for i in self.kept]
        if self.pack is not None:
            packed = [pieces[i] for i in self.packed]
            output.append(self.pack(concatenated(packed)))
        return output


def concatenated(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


class Backbone(nn.Module):
    """ShuffleNet V2 or SNet; ``orders`` are those of the maps it returns."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        stem = layers_of(backbone.conv1)
        order = padded(range(stem[-1][0].out_channels))
        self.stem = Chain(stem, [0, 1, 2], [order])
        self.maxpool = backbone.maxpool
        self.stages, self.orders = nn.ModuleList(), []
        self.out_indices = backbone.out_indices
        for index, name in enumerate(backbone.stage_names):
            stage = getattr(backbone, name)
            if name == 'conv5':
                layers, source = layers_of(stage), order
                order = padded(range(layers[-1][0].out_channels))
                self.stages.append(Chain(layers, source, [order]))
            else:
                self.stages.append(Stage(list(stage), order))
                order = self.stages[-1].order
            if index in self.out_indices:
                self.orders.append(order)

    def forward(self, x: Tensor) -> list[Tensor]:
        (x,) = self.stem(x)
        x = self.maxpool(x)
        maps = []
        for index, stage in enumerate(self.stages):
            x = concatenated(stage(x))
            if index in self.out_indices:
                maps.append(x)
        return maps


def folded_neck(
    neck: nn.Module, orders: list[Order], map_order: Order
) -> tuple[nn.Module, Order]:
    """A copy of the neck between these orders, and that of the RPN's map."""
    neck = copy.deepcopy(neck)
    if isinstance(neck, ThunderNetNeck):
        c4, c5 = orders
        rpn = padded(range(neck.rpn_channels))
        neck.context4 = reordered(neck.context4, c4, map_order)
        neck.context5 = reordered(neck.context5, c5, map_order)
        neck.context_global = reordered(neck.context_global, c5, map_order)
        neck.rpn_depthwise = reordered(neck.rpn_depthwise, [], map_order)
        neck.rpn_pointwise = reordered(neck.rpn_pointwise, map_order, rpn)
        if neck.attention is not None:
            conv, norm = neck.attention
            neck.attention = reordered(conv, rpn, map_order, norm)
        return neck, rpn
    source = orders[neck.map_level]
    if isinstance(neck, RFCNNeck):
        if neck.reduce is not None:
            middle = padded(range(neck.reduce[0].out_channels))
            neck.reduce[0] = reordered(neck.reduce[0], source, middle)
            source = middle
        for name in 'score_conv', 'box_conv':
            conv = getattr(neck, name)
            target = list(range(conv.out_channels))
            setattr(neck, name, reordered(conv, source, target))
    else:
        thin = neck.thin_conv
        for branch in thin.vertical_first, thin.horizontal_first:
            middle = padded(range(branch.conv1.out_channels))
            norm = getattr(branch, 'norm', None)
            branch.conv1 = reordered(branch.conv1, source, middle)
            branch.conv2 = reordered(branch.conv2, middle, map_order, norm)
            branch.norm = nn.Identity()
    return neck, orders[neck.rpn_level]


NECKS = LightHeadNeck, ThunderNetNeck, RFCNNeck


def stacked(one: nn.Conv2d, other: nn.Conv2d) -> nn.Conv2d:
    """One convolution with the outputs of both."""
    width = one.out_channels + other.out_channels
    conv = nn.Conv2d(one.in_channels, width, 1)
    conv.weight.data = torch.cat([one.weight, other.weight]).detach()
    conv.bias.data = torch.cat([one.bias, other.bias]).detach()
    return conv


class Folded(nn.Module):
    """From the image to the map that RoIs read and the RPN's outputs.

    Args:
        detector: A two-stage detector with one of ``NECKS``.
        map_order: The order of channels of the map.
    """

    def __init__(self, detector: nn.Module, map_order: Order):
        super().__init__()
        backbone, neck = detector.backbone, detector.neck
        orders = [list(range(count)) for count in neck.in_channels]
        self.backbone = backbone
        # A variant whose units hold other layers stays as it is.
        if isinstance(backbone, ShuffleNetV2 | SNet):
            with suppress(NotImplementedError):
                self.backbone = Backbone(backbone)
                orders = self.backbone.orders
        self.neck, rpn_order = folded_neck(neck, orders, map_order)
        head = detector.rpn_head
        layers = layers_of(head.rpn_conv)
        for layer in layers:
            layer[2] = True
        layers.append([stacked(head.rpn_cls, head.rpn_reg), None, False])
        outputs = list(range(layers[-1][0].out_channels))
        self.rpn = Chain(layers, rpn_order, [outputs])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map of RoIs, and scores and deltas of anchors (N, 5A, h, w)."""
        roi_map, rpn_map = self.neck(self.backbone(x))
        return roi_map, *self.rpn(rpn_map)
