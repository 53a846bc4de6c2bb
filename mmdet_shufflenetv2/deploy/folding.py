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
from ..detection import LightHeadNeck, RFCNNeck, ThunderNetNeck
from ..errors import UserError

BLOCK = 16
# Fewer channels than this wait in one piece with others.
SMALLEST_PIECE = 12
NECKS = LightHeadNeck, ThunderNetNeck, RFCNNeck

Order = list[int]


def padded(order: Iterable[int]) -> Order:
    order = list(order)
    return order + [-1] * (-len(order) % BLOCK)


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
    if isinstance(norm, _BatchNorm):
        statistics = norm.running_mean, norm.running_var, norm.eps
        weight, bias = fuse_conv_bn_weights(
            weight, bias, *statistics, norm.weight, norm.bias
        )
    elif norm is not None:
        raise UserError(
            'cannot be exported: expected batch norm after the '
            f"detector's convolutions, got {type(norm).__name__}"
        )
    weight = pick(weight, target)
    inputs = groups = len(target)
    if conv.groups == 1:
        weight = pick(weight, source, 1)
        inputs, groups = len(source), 1
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    folded = nn.Conv2d(inputs, len(target), *shape, groups)
    folded.weight.data, folded.bias.data = weight, pick(bias, target)
    return folded


def layers_of(*modules: nn.Module) -> list[list]:
    """Convolutions, the norm after each, and whether a ReLU follows.

    Raises:
        NotImplementedError: There is another kind of layer.
    """
    layers = []
    for leaf in (leaf for module in modules for leaf in module.modules()):
        if next(leaf.children(), None) or isinstance(leaf, nn.Identity):
            continue
        groups = getattr(leaf, 'groups', 0)
        if groups and groups in (1, leaf.in_channels):
            layers.append([leaf, None, False])
        elif isinstance(leaf, _BatchNorm) and layers:
            layers[-1][1] = leaf
        elif isinstance(leaf, nn.ReLU) and layers:
            layers[-1][2] = True
        else:
            raise NotImplementedError(leaf)
    return layers


def is_full(read: set, piece: list) -> bool:
    return 5 * len(read & {*piece}) >= 4 * len(padded(piece))


def concatenated(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


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
    """A stage of shuffle units without a shuffle; ``order`` is its output's.

    Channels have names here: which chain emitted them, and their place in
    its output.
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
        # What each unit after the first transforms, and what leaves.
        passed, reads = names[0], []
        for unit, main in zip(units, names[1:], strict=True):
            line = passed + main
            if unit.shuffle_first:
                passed, read = line[::2], line[1::2]
            else:
                line = [
                    n for pair in zip(passed, main, strict=True) for n in pair
                ]
                passed, read = line[: len(line) // 2], line[len(line) // 2 :]
            reads.append(read)
        reads[-1] = line
        reader = {name: i for i, read in enumerate(reads) for name in read}
        pieces, emitted = [], []
        for channels in names:
            first = len(pieces)
            for name in sorted(channels, key=reader.get):
                is_new = len(pieces) == first or (
                    reader[name] != reader[pieces[-1][-1]]
                    and len(pieces[-1]) >= SMALLEST_PIECE
                )
                if is_new:
                    pieces.append([])
                pieces[-1].append(name)
            emitted.append(
                [padded(j for _, j in piece) for piece in pieces[first:]]
            )

        def order(read: list, chosen: list[int]) -> Order:
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
        # A piece of which much was read before is packed with others by a
        # convolution of ones: cheaper than to read zeros.
        self.kept = [i for i in final if is_full({*line}, pieces[i])]
        self.packed = [i for i in final if i not in self.kept]
        self.order, self.pack = order(line, self.kept), None
        if self.packed:
            ones = nn.Conv2d(len(line), len(line), 1, bias=False)
            ones.weight.data = torch.eye(len(line))[..., None, None]
            source = order(line, self.packed)
            target = padded(channel for channel in source if channel >= 0)
            self.pack = reordered(ones, source, target)
            self.order += target

    def forward(self, x: Tensor) -> list[Tensor]:
        first, second, *others = self.chains
        pieces = first(x) + second(x)
        for chain, reads in zip(others, self.reads, strict=True):
            pieces += chain(concatenated([pieces[i] for i in reads]))
        output = [pieces[i] for i in self.kept]
        if self.packed:
            packed = concatenated([pieces[i] for i in self.packed])
            output.append(self.pack(packed))
        return output


class Backbone(nn.Module):
    """ShuffleNet V2 or SNet; ``orders`` are those of the maps it returns."""

    def __init__(self, backbone: ShuffleNetV2):
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
        x = self.maxpool(*self.stem(x))
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
    rpn, source = orders[neck.rpn_level], orders[neck.map_level]
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
    elif isinstance(neck, LightHeadNeck):
        thin = neck.thin_conv
        for branch in thin.vertical_first, thin.horizontal_first:
            middle = padded(range(branch.conv1.out_channels))
            norm = getattr(branch, 'norm', None)
            branch.conv1 = reordered(branch.conv1, source, middle)
            branch.conv2 = reordered(branch.conv2, middle, map_order, norm)
            branch.norm = nn.Identity()
    elif neck.reduce is not None:
        whole = list(range(neck.reduce[0].out_channels))
        neck.reduce[0] = reordered(neck.reduce[0], source, whole)
    else:
        for name in 'score_conv', 'box_conv':
            conv = getattr(neck, name)
            whole = list(range(conv.out_channels))
            setattr(neck, name, reordered(conv, source, whole))
    return neck, rpn


class Folded(nn.Module):
    """From the image to the map that RoIs read and the RPN's outputs.

    Args:
        detector: A two-stage detector with one of ``NECKS``.
        map_order: The order of channels of the map.
    """

    def __init__(self, detector: nn.Module, map_order: Order):
        super().__init__()
        self.backbone = detector.backbone
        orders = [list(range(n)) for n in detector.neck.in_channels]
        # A variant whose units hold other layers stays as it is.
        if isinstance(self.backbone, ShuffleNetV2):
            with suppress(NotImplementedError):
                self.backbone = Backbone(self.backbone)
                orders = self.backbone.orders
        self.neck, order = folded_neck(detector.neck, orders, map_order)
        head = detector.rpn_head
        last = head.rpn_cls, head.rpn_reg
        count = last[0].out_channels + last[1].out_channels
        both = nn.Conv2d(last[0].in_channels, count, 1)
        both.weight.data = torch.cat([each.weight for each in last]).detach()
        both.bias.data = torch.cat([each.bias for each in last]).detach()
        layers = [[*each[:2], True] for each in layers_of(head.rpn_conv)]
        layers.append([both, None, False])
        self.rpn = Chain(layers, order, [list(range(count))])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map of RoIs, and scores and deltas of anchors (N, 5A, h, w)."""
        roi_map, rpn_map = self.neck(self.backbone(x))
        return roi_map, *self.rpn(rpn_map)
