"""Cost of a convolution from its shapes: FLOPs and memory access.

Shapes: N images, C channels, maps of H x W pixels.

FLOPs are multiply-adds. Memory access (the paper's MAC, arXiv 1807.11164,
section 2, G1) is the number of elements moved: the input map is read and the
output map written once per image, the weights are read once per batch. As in
the paper, the bias is not counted.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """A 2D convolution of a batch of maps; linear layers are 1x1.

    Attributes:
        in_channels, out_channels: channels of the maps, multiples of
            ``groups``.
        in_size: (H, W) of the input map.
        out_size: (H, W) of the output map.
        kernel_size: (height, width) of the kernel.
        groups: number of independent groups of channels.
        batch: N, the number of images that share one read of the weights.
        transposed: the kernel is applied per position of the input.
        stride, padding, dilation: as in `torch.nn.functional`.
        in_strides: strides of the input in elements; None if the convolution
            cannot be rerun.
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
        """Whether there are several groups with one input channel each."""
        return self.groups == self.in_channels > 1

    @property
    def in_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the input."""
        return (self.batch, self.in_channels, *self.in_size)

    @property
    def has_gaps(self) -> bool:
        """Whether the input is a slice, with other elements in between."""
        sides = zip(self.in_shape, self.in_strides, strict=True)
        last = sum((n - 1) * stride for n, stride in sides)
        return last + 1 > math.prod(self.in_shape)

    @property
    def channels_last(self) -> bool:
        """Whether neighbouring channels are adjacent in memory."""
        return self.in_channels > 1 and self.in_strides[1] == 1

    @property
    def weights(self) -> int:
        """Number of weights."""
        per_group = self.in_channels // self.groups
        return math.prod(self.kernel_size) * per_group * self.out_channels

    @property
    def positions(self) -> int:
        """Number of positions, over all images, that the kernel visits."""
        size = self.in_size if self.transposed else self.out_size
        return self.batch * math.prod(size)

    @property
    def flops(self) -> int:
        """Multiply-adds of the batch."""
        return self.positions * self.weights

    @property
    def memory_access(self) -> int:
        """Elements moved: ``N h w (c1 + c2) + k k c1 c2 / g``."""
        read = math.prod(self.in_size) * self.in_channels
        written = math.prod(self.out_size) * self.out_channels
        return self.batch * (read + written) + self.weights

    @property
    def memory_access_bound(self) -> float | None:
        """Lower bound of memory access for a 1x1 convolution of these FLOPs.

        The paper's equation (2), ``2 sqrt(h w B) + B / (h w)``. A dense
        convolution reaches it if both maps have equal channels (G1), a grouped
        one exceeds it (G2). None for other kernels and strides.
        """
        if self.kernel_size != (1, 1) or self.in_size != self.out_size:
            return None
        root = math.sqrt(self.positions * self.flops)
        return 2 * root + self.flops / self.positions
