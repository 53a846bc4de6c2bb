"""What a convolution costs by its shapes: FLOPs and memory access.

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
from dataclasses import dataclass


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
        stride, padding, dilation: as `torch.nn.functional` takes them.
        in_strides: the input's own, in elements; None if it is not known how
            the convolution can be run again.

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
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    in_strides: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.out_size is None:
            object.__setattr__(self, 'out_size', self.in_size)
        for name in ('in_size', 'out_size', 'kernel_size'):
            value = tuple(getattr(self, name))
            if len(value) != 2 or min(value) < 1:
                raise ValueError(
                    f'{name}: expected two positive integers, got {value}'
                )
        for name in ('in_channels', 'out_channels', 'groups', 'batch'):
            if getattr(self, name) < 1:
                raise ValueError(
                    f'{name}: expected a positive integer, got '
                    f'{getattr(self, name)}'
                )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                'groups: expected a divisor of in_channels and out_channels, '
                f'got {self.groups} for {self.in_channels} and '
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
    def in_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the input."""
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def has_gaps(self) -> bool:
        """Whether elements of other tensors lie between the input's."""
        sides = zip(self.in_shape, self.in_strides, strict=True)
        reach = sum((n - 1) * stride for n, stride in sides)
        return reach + 1 > math.prod(self.in_shape)

    @property
    def channels_last(self) -> bool:
        """Whether neighbours in memory are neighbouring channels."""
        return self.in_channels > 1 and self.in_strides[1] == 1

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
