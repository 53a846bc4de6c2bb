"""CARAFE upsampling (arXiv 1905.02188).

Shapes: features (N, C, H, W) in G groups of channels, masks
(N, G * K * K, S * H, S * W) of a K x K kernel to each output pixel, output
(N, C, S * H, S * W). Each output pixel is the sum of the K x K features
around its source pixel, weighted by its own kernel.
"""

from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import pad

from .precision import full_precision


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **settings,
) -> None:
    """Upsampled features into ``output``.

    Args:
        rfeatures: Receives what ``carafe_backward`` is handed in place of
            the features; the other two buffers stay unused.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **settings)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **settings,
) -> None:
    """Gradients of ``carafe_forward`` into the last two buffers."""
    carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, **settings
    )


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Upsampled features into ``output``."""
    split = _Split(features, kernel_size, group_size, scale_factor)
    kernels = split.pixels(full_precision(masks), kernel_size**2)
    total = 0
    for tap, window in split.windows(split.padded()):
        total = total + kernels[:, :, tap, None] * window[..., None, :, None]
    output.copy_(total.reshape(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients by features and masks into their buffers."""
    split = _Split(features, kernel_size, group_size, scale_factor)
    kernels = split.pixels(full_precision(masks), kernel_size**2)
    grad = split.pixels(full_precision(grad_output), -1)
    by_kernels = kernels.new_empty(kernels.shape)
    padded = split.padded()
    by_padded = padded.new_zeros(padded.shape)
    grad_windows = split.windows(by_padded)
    for (tap, window), (_, by_window) in zip(
        split.windows(padded), grad_windows, strict=True
    ):
        by_kernels[:, :, tap] = (grad * window[..., None, :, None]).sum(2)
        by_window += (grad * kernels[:, :, tap, None]).sum((-3, -1))
    grad_masks.copy_(by_kernels.reshape(grad_masks.shape))
    edge = kernel_size // 2
    height, width = features.shape[-2:]
    inner = by_padded[..., edge : edge + height, edge : edge + width]
    grad_input.copy_(inner.reshape(grad_input.shape))


class _Split:
    """The common view: groups of channels, pixels as H x S x W x S."""

    def __init__(
        self, features: Tensor, kernel_size: int, groups: int, scale: int
    ) -> None:
        self.features = full_precision(features)
        self.kernel_size = kernel_size
        self.groups = groups
        self.scale = scale

    def pixels(self, upsampled: Tensor, channels: int) -> Tensor:
        """(N, G * channels, S*H, S*W) as (N, G, channels, H, S, W, S)."""
        height, width = self.features.shape[-2:]
        return upsampled.reshape(
            *(len(upsampled), self.groups, channels),
            *(height, self.scale, width, self.scale),
        )

    def padded(self) -> Tensor:
        """Features (N, G, C / G, H + K - 1, W + K - 1), zeros around."""
        grouped = self.features.unflatten(1, (self.groups, -1))
        return pad(grouped, [self.kernel_size // 2] * 4)

    def windows(self, padded: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Number of each kernel tap and the features it sees (..., H, W)."""
        height, width = self.features.shape[-2:]
        for tap in range(self.kernel_size**2):
            row, column = divmod(tap, self.kernel_size)
            yield (
                tap,
                padded[..., row : row + height, column : column + width],
            )
