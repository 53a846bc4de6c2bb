"""The steps of ``mmcv.ops.SyncBatchNorm`` between its all-reduces.

Shapes: maps as (N, C, S) with S the number of pixels; statistics are (C,).
"""

from torch import Tensor


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Mean of every channel on this device into ``mean``."""
    mean.copy_(input.to(mean.dtype).mean((0, 2)))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Mean square distance from the ``mean`` of all devices into ``var``."""
    centered = input.to(var.dtype) - mean[:, None]
    var.copy_(centered.square().mean((0, 2)))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    *,
    eps: float,
    momentum: Tensor | float,
    group_size: int,
) -> None:
    """Normalised maps into ``norm`` and, scaled, into ``output``.

    Also fills ``std`` and moves the running statistics, the variance as its
    unbiased estimate over the pixels of all devices.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((input.to(norm.dtype) - mean[:, None]) / std[:, None])
    scaled = norm
    if weight is not None:
        scaled = norm * weight[:, None] + bias[:, None]
    output.copy_(scaled)
    if running_mean is not None:
        count = input.size(0) * input.size(2) * group_size
        unbiased = var * (count / max(count - 1, 1))
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(unbiased, momentum)


def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Gradients by scale and shift on this device into their buffers."""
    grad = grad_output.to(norm.dtype)
    grad_weight.copy_((grad * norm).sum((0, 2)))
    grad_bias.copy_(grad.sum((0, 2)))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Gradient by the map into ``grad_input``.

    Args:
        grad_weight, grad_bias: Means over the devices of what
            ``sync_bn_backward_param`` gave.
    """
    pixels = grad_output.size(0) * grad_output.size(2)
    shared = norm * grad_weight[:, None] + grad_bias[:, None]
    centered = grad_output.to(norm.dtype) - shared / pixels
    grad_input.copy_(centered * (weight / std)[:, None])
