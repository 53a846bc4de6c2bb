"""Deformable and masked convolutions.

Shapes: a map of (N, C, H, W), weights (O, C / groups, KH, KW), offsets
(N, 2 * G * KH * KW, OH, OW) in y, x for each of G deformable groups and each
tap, masks (N, G * KH * KW, OH, OW).
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from .precision import full_precision

compiled = torch.ops.torchvision


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **settings,
) -> None:
    """Deformable convolution, version 1 (arXiv 1703.06211)."""
    tensors, numbers = _version_1(input, weight, offset, settings)
    output.copy_(compiled.deform_conv2d(*tensors, *numbers))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings,
) -> None:
    """Gradients by the map and by the offsets.

    torchvision computes the one by the weight in the same pass. It is left
    in ``columns``, a scratch buffer which mmcv hands on to
    ``deform_conv_backward_parameters``, so that it need not do all of this
    again.
    """
    tensors, numbers = _version_1(input, weight, offset, settings)
    by_input, by_weight, by_offset, *_ = compiled._deform_conv2d_backward(
        full_precision(grad_output), *tensors, *numbers
    )
    grad_input.copy_(by_input)
    grad_offset.copy_(by_offset)
    columns.resize_(weight.shape).copy_(by_weight)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **settings,
) -> None:
    """Gradient by the weight, times ``scale``, into ``grad_weight``."""
    if columns.shape != grad_weight.shape:
        # Neither the map nor the offsets needed a gradient.
        tensors, numbers = _version_1(
            input, torch.zeros_like(grad_weight), offset, settings
        )
        columns = compiled._deform_conv2d_backward(
            full_precision(grad_output), *tensors, *numbers
        )[1]
    grad_weight.copy_(columns * scale)


def _version_1(
    input: Tensor, weight: Tensor, offset: Tensor, settings: dict
) -> tuple[tuple[Tensor, ...], tuple]:
    """The tensors and the numbers of torchvision's call, without a mask."""
    numbers = tuple(
        settings[name]
        for name in (
            *('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'),
            *('group', 'deformable_group'),
        )
    )
    input = full_precision(input)
    no_mask = input.new_zeros(len(input), 1)
    no_bias = input.new_zeros(len(weight))
    weight, offset = weight.to(input.dtype), offset.to(input.dtype)
    return (input, weight, offset, no_mask, no_bias), (*numbers, False)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **settings,
) -> None:
    """Deformable convolution, version 2 (arXiv 1811.11168)."""
    tensors, numbers = _version_2(input, weight, offset, mask, bias, settings)
    output.copy_(compiled.deform_conv2d(*tensors, *numbers))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **settings,
) -> None:
    """All gradients into their buffers; ``grad_bias`` only with a bias."""
    tensors, numbers = _version_2(input, weight, offset, mask, bias, settings)
    grads = compiled._deform_conv2d_backward(
        full_precision(grad_output), *tensors, *numbers
    )
    buffers = grad_input, grad_weight, grad_offset, grad_mask, grad_bias
    for buffer, grad in zip(buffers, grads, strict=True):
        if buffer.numel():
            buffer.copy_(grad)


def _version_2(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    settings: dict,
) -> tuple[tuple[Tensor, ...], tuple]:
    """The tensors and the numbers of torchvision's call, with a mask."""
    numbers = tuple(
        settings[name]
        for name in (
            *('stride_h', 'stride_w', 'pad_h', 'pad_w'),
            *('dilation_h', 'dilation_w', 'group', 'deformable_group'),
        )
    )
    input = full_precision(input)
    if not settings['with_bias']:
        bias = input.new_zeros(len(weight))
    others = (x.to(input.dtype) for x in (weight, offset, mask, bias))
    return (input, *others), (*numbers, True)


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Patches around M places of a map (1, C, H, W), for a matrix product.

    Args:
        mask_h_idx, mask_w_idx: (M,), rows and columns of the places.
        data_col: (C * KH * KW, M), receives the patches.
    """
    padded = pad(features[0], (pad_w, pad_w, pad_h, pad_h))
    patches = data_col.view(-1, kernel_h, kernel_w, len(mask_h_idx))
    for row in range(kernel_h):
        for column in range(kernel_w):
            patches[:, row, column] = padded[
                :, mask_h_idx + row, mask_w_idx + column
            ]


def masked_col2im_forward(
    masked_output: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    output: Tensor,
    *,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Columns (C, M) back to their places in ``output`` (1, C, H, W)."""
    output[0, :, mask_h_idx, mask_w_idx] = masked_output
