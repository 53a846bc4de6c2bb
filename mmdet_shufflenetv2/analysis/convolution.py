"""What a convolution costs by its shapes: FLOPs and memory access.

N images, C channels, H x W pixels of a map.

FLOPs are multiply-adds. Memory access (the paper's MAC, arXiv 1807.11164,
section 2, G1) is the number of elements that must move: the input map and
the weights are read, the output map is written, each once, the weights once
per batch. A bias counts as neither, as in the paper.
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
        out_size: (H, W) of the output map.
        kernel_size: (height, width) of the kernel.
        groups: groups of channels that do not see each other.
        batch: N, images that share one read of the weights.
        transposed: the kernel is applied per position of the input.
        stride, padding, dilation: as `torch.nn.functional` takes them.
        in_strides: the input's own, in elements; None if it is not known how
            the convolution can be run again.
    """

    in_channels: int
    out_channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    kernel_size: tuple[int, int]
    groups: int = 1
    batch: int = 1
    transposed: bool = False
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    in_strides: tuple[int, ...] | None = None

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
        """The least memory access of a 1x1 convolution of these FLOPs.

        The paper's equation (2), ``2 sqrt(h w B) + B / (h w)``. A dense one
        reaches it with as many channels in as out (G1), groups stay above it
        (G2). None for other kernels and a stride, where it does not hold.
        """
        if self.kernel_size != (1, 1) or self.in_size != self.out_size:
            return None
        root = math.sqrt(self.positions * self.flops)
        return 2 * root + self.flops / self.positions
