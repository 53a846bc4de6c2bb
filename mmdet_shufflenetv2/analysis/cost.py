"""What an operation costs by its shapes: FLOPs and memory access.

N images, C channels, H x W pixels of a map.

FLOPs are multiply-adds. Memory access (the paper's MAC, arXiv 1807.11164,
section 2, G1) is the number of elements that must move: the input map and
the weights are read, the output map is written, each once. A bias is neither
counted as FLOPs nor as memory access, as in the paper.

The paper writes both for one image and maps of equal size, ``h w (c1 + c2) +
c1 c2`` for a 1x1 convolution. Here ``h w`` is the positions of all images, N
H W: the weights are read once per batch. A stride makes input and output
maps differ, and each counts with its own size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Convolution:
    """A 2D convolution at work on a batch of maps; linear layers are 1x1.

    Attributes:
        in_channels, out_channels: channels of both maps; ``groups``
            divides both.
        in_size: (H, W) of the input map.
        out_size: (H, W) of the output map; None means the same.
        kernel_size: (height, width) of the kernel.
        groups: groups of channels that do not see each other.
        batch: N, images that share one read of the weights.
        transposed: the kernel is applied per position of the input.

    Raises:
        ValueError: a number is not positive, or ``groups`` does not divide
            the channels.
    """

    in_channels: int
    out_channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int] | None = None
    kernel_size: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1
    transposed: bool = False

    def __post_init__(self):
        if self.out_size is None:
            object.__setattr__(self, 'out_size', self.in_size)
        for name in ('in_size', 'out_size', 'kernel_size'):
            value = tuple(getattr(self, name))
            if len(value) != 2 or min(value) < 1:
                raise ValueError(
                    f'{name}: two positive integers are allowed, got {value}'
                )
        for name in ('in_channels', 'out_channels', 'groups', 'batch'):
            if getattr(self, name) < 1:
                raise ValueError(
                    f'{name}: a positive integer is allowed, got '
                    f'{getattr(self, name)}'
                )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                'groups: a divisor of in_channels and out_channels is '
                f'allowed, got {self.groups} for {self.in_channels} and '
                f'{self.out_channels}'
            )

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is 1x1, with or without groups."""
        return self.kernel_size == (1, 1)

    @property
    def is_depthwise(self) -> bool:
        """Whether every group has one input channel, and there are many."""
        return self.groups == self.in_channels > 1

    @property
    def weights(self) -> int:
        """Elements of the kernel."""
        per_group = self.in_channels // self.groups
        return math.prod(self.kernel_size) * per_group * self.out_channels

    @property
    def positions(self) -> int:
        """Places of all images at which the kernel is applied."""
        size = self.in_size if self.transposed else self.out_size
        return self.batch * math.prod(size)

    @property
    def flops(self) -> int:
        """Multiply-adds of the batch."""
        return self.positions * self.weights

    @property
    def memory_access(self) -> int:
        """Elements to move: ``h w (c1 + c2) + k k c1 c2 / g``."""
        read = math.prod(self.in_size) * self.in_channels
        written = math.prod(self.out_size) * self.out_channels
        return self.batch * (read + written) + self.weights

    @property
    def memory_access_bound(self) -> float | None:
        """The least memory access a 1x1 convolution of these FLOPs needs.

        See :func:`pointwise_memory_access_bound`; None for other kernels
        and for a stride, where the bound does not hold.
        """
        if not self.is_pointwise or self.in_size != self.out_size:
            return None
        return pointwise_memory_access_bound(self.flops, self.positions)


def pointwise_memory_access_bound(flops: float, positions: int) -> float:
    """The paper's equation (2): ``2 sqrt(h w B) + B / (h w)``.

    A dense 1x1 convolution reaches it where ``in_channels`` and
    ``out_channels`` are equal (G1); groups stay above it (G2).

    Args:
        flops: B, multiply-adds of the batch.
        positions: ``h w``, of all images together.

    Returns:
        elements.
    """
    return 2 * math.sqrt(positions * flops) + flops / positions


# A formula takes the arguments and the result tensors of a call, and gives
# the multiply-adds, None where they follow from values, and the layer if the
# operation is a convolution of one or two dimensions.
Counted = tuple[int | None, Convolution | None]
Formula = Callable[[tuple, list[Tensor]], Counted]


def _as_2d(size: Sequence[int]) -> tuple[int, int]:
    return (1, *size) if len(size) == 1 else tuple(size)


def _convolution(
    x: Tensor, weight: Tensor, out: Tensor, groups: int, transposed: bool
) -> tuple[int, Convolution | None]:
    """Multiply-adds, and the layer where it has one or two dimensions."""
    batch, in_channels, *in_size = x.shape
    out_channels, out_size = out.shape[1], out.shape[2:]
    places = math.prod(in_size if transposed else out_size)
    flops = batch * places * weight.numel()
    if len(in_size) > 2 or not flops:
        return flops, None
    return flops, Convolution(
        in_channels,
        out_channels,
        _as_2d(in_size),
        _as_2d(out_size),
        _as_2d(weight.shape[2:]),
        groups,
        batch,
        transposed,
    )


def _aten_convolution(args, out):
    transposed, groups = args[6], args[8]
    return _convolution(args[0], args[1], out[0], groups, transposed)


def _deformable(args, out):
    x, weight = args[:2]
    groups = x.shape[1] // weight.shape[1]
    return _convolution(x, weight, out[0], groups, False)


def _product(args, out):
    """Of the last two tensors; a bias may come first."""
    left = [a for a in args if isinstance(a, Tensor)][-2]
    return out[0].numel() * left.shape[-1], None


def _linear(args, out):
    return out[0].numel() * args[0].shape[-1], None


def _attention(args, out):
    query, key, value = args[:3]
    scores = query.shape[:-1].numel() * key.shape[-2]
    return scores * (query.shape[-1] + value.shape[-1]), None


def _self_attention(args, out):
    """Of PyTorch's fast paths: attention and all products around it."""
    x = args[0]
    batch, tokens, channels = x.shape
    weights = sum(
        a.numel() for a in args if isinstance(a, Tensor) and a.dim() == 2
    )
    return batch * tokens * (weights + 2 * tokens * channels), None


def _recurrent_layer(args, out):
    """Every step is the product of its input and state and the weights."""
    x, *weights = args[:3]
    steps = x.shape[:-1].numel()
    return steps * sum(weight.numel() for weight in weights), None


def _recurrent_network(args, out):
    """As on GPUs, with a list of all layers' weights and biases."""
    x, weights = args[:2]
    steps = x.shape[:-1].numel()
    return steps * sum(w.numel() for w in weights if w.dim() == 2), None


def _embedding_bag(args, out):
    """Position-sensitive RoI pooling is a weighted sum of table rows."""
    table, taps = args[:2]
    return taps.numel() * table.shape[1], None


def _row_sum(args, out):
    """This package's own op, of several groups of bags."""
    return sum(taps.numel() for taps in args[1]) * args[0].shape[-1], None


def _roi_align(args, out):
    samples = args[5]
    # Without a number of samples it follows from the boxes' values.
    flops = 4 * out[0].numel() * samples**2 if samples > 0 else None
    return flops, None


FLOPS: dict[str, Formula] = {
    'aten::convolution': _aten_convolution,
    'torchvision::deform_conv2d': _deformable,
    **dict.fromkeys(
        (f'aten::{name}' for name in ('mm', 'addmm', 'bmm', 'baddbmm', 'mv')),
        _product,
    ),
    'aten::linear': _linear,
    **dict.fromkeys(
        (
            f'aten::_scaled_dot_product_{name}'
            for name in (
                'flash_attention',
                'flash_attention_for_cpu',
                'efficient_attention',
                'cudnn_attention',
                'attention_math',
                'fused_attention_overrideable',
            )
        ),
        _attention,
    ),
    'aten::_native_multi_head_attention': _self_attention,
    'aten::_transformer_encoder_layer_fwd': _self_attention,
    'aten::mkldnn_rnn_layer': _recurrent_layer,
    'aten::_cudnn_rnn': _recurrent_network,
    'aten::_embedding_bag': _embedding_bag,
    'aten::_embedding_bag_forward_only': _embedding_bag,
    'mmdet_shufflenetv2::row_sum': _row_sum,
    'torchvision::roi_align': _roi_align,
}
