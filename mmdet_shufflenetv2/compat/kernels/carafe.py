"""CARAFE upsampling (arXiv 1905.02188).

Shapes: features (N, C, H, W) in G groups of channels, masks
(N, G * K * K, S * H, S * W) of a K x K kernel to each output pixel, output
(N, C, S * H, S * W). Each output pixel is the sum of the K x K features
around its source pixel, weighted by its own kernel.
"""

from torch import Tensor
from torch.nn.functional import pad

from . import differentiate, full_precision


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **settings: int,
) -> None:
    """Upsampled features into ``output``.

    Args:
        rfeatures: Receives what ``carafe_backward`` is handed in place of
            the features; the other two buffers stay unused.
    """
    rfeatures.copy_(features)
    tensors = full_precision(features), full_precision(masks)
    output.copy_(_upsample(*tensors, **settings))


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
    **settings: int,
) -> None:
    """Gradients of ``carafe_forward`` into the last two buffers."""
    differentiate(
        lambda features, masks: _upsample(features, masks, **settings),
        (rfeatures.view_as(grad_input), masks),
        grad_output,
        (grad_input, grad_masks),
    )


def _upsample(
    features: Tensor,
    masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> Tensor:
    height, width = features.shape[-2:]
    # (N, G, K * K, 1, H, S, W, S)
    kernels = masks.reshape(
        *(len(masks), group_size, kernel_size**2, 1),
        *(height, scale_factor, width, scale_factor),
    )
    grouped = features.unflatten(1, (group_size, -1))
    padded = pad(grouped, [kernel_size // 2] * 4)
    total = 0
    for tap in range(kernel_size**2):
        row, column = divmod(tap, kernel_size)
        window = padded[..., row : row + height, column : column + width]
        total = total + kernels[:, :, tap] * window[..., None, :, None]
    # (N, G, C / G, H, S, W, S)
    return total.flatten(5, 6).flatten(3, 4).flatten(1, 2)
