"""Deformable and masked convolutions.

Shapes: a map of (N, C, H, W), weights (O, C / groups, KH, KW), offsets
(N, 2 * G * KH * KW, OH, OW) in y, x for each of G deformable groups and each
tap, masks (N, G * KH * KW, OH, OW).

Like mmcv, version 2 reads the head of each image's memory of offsets and
masks that are larger than the output, as DyHead passes them. And like mmcv,
an offset to a place exactly one pixel outside of the map gets no gradient,
where torchvision takes the derivative towards the inside: such places are
what the zero offsets of a fresh layer with padding 1 point at.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import full_precision

compiled = torch.ops.torchvision

# The names under which mmcv passes what torchvision's op takes in this order:
# stride, padding and dilation along y and x, groups, deformable groups.
VERSION_1 = (
    *('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'),
    *('group', 'deformable_group'),
)
VERSION_2 = (
    *('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w'),
    *('group', 'deformable_group'),
)


def _arguments(
    names: tuple[str, ...],
    settings: dict,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple:
    """What torchvision's op takes, all tensors in one precision."""
    input = full_precision(input)
    tensors = (
        weight,
        offset,
        input.new_zeros(len(input), 1) if mask is None else mask,
        input.new_zeros(len(weight)) if bias is None else bias,
    )
    tensors = (x.to(input.dtype) for x in tensors)
    numbers = (settings[name] for name in names)
    return input, *tensors, *numbers, mask is not None


def _differentiate(grad_output: Tensor, arguments: tuple) -> list[Tensor]:
    """Gradients by map, weight, offset, mask and bias."""
    grads = list(
        compiled._deform_conv2d_backward(
            full_precision(grad_output), *arguments
        )
    )
    grads[2] = _without_border(grads[2], *arguments)
    return grads


def _without_border(
    grad: Tensor, input: Tensor, weight: Tensor, offset: Tensor, *others
) -> Tensor:
    """A gradient by offsets, zero where they point exactly at -1."""
    sy, sx, py, px, dy, dx, _, groups = others[2:-1]
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    moves = offset.reshape(len(offset), groups, kh, kw, 2, oh, ow)

    def along(taps: int, dilation: int, size: int, stride: int, padding: int):
        tap = torch.arange(taps, device=grad.device)[:, None] * dilation
        return tap + torch.arange(size, device=grad.device) * stride - padding

    y = along(kh, dy, oh, sy, py)[:, None, :, None] + moves[:, :, :, :, 0]
    x = along(kw, dx, ow, sx, px)[:, None] + moves[:, :, :, :, 1]
    outside = ((y == -1) | (x == -1)).unsqueeze(4)
    return grad.view_as(moves).masked_fill(outside, 0).view_as(offset)


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
    arguments = _arguments(VERSION_1, settings, input, weight, offset)
    output.copy_(compiled.deform_conv2d(*arguments))


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
    arguments = _arguments(VERSION_1, settings, input, weight, offset)
    by_input, by_weight, by_offset, *_ = _differentiate(grad_output, arguments)
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
        weight = torch.zeros_like(grad_weight)
        arguments = _arguments(VERSION_1, settings, input, weight, offset)
        columns = _differentiate(grad_output, arguments)[1]
    grad_weight.copy_(columns * scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **settings,
) -> None:
    """Deformable convolution, version 2 (arXiv 1811.11168)."""
    size = output.shape[2:]
    arguments = _arguments(
        *(VERSION_2, settings, input, weight),
        *(_head(offset, size), _head(mask, size)),
        bias if with_bias else None,
    )
    output.copy_(compiled.deform_conv2d(*arguments))


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
    *,
    with_bias: bool,
    **settings,
) -> None:
    """All gradients into their buffers; ``grad_bias`` only with a bias."""
    size = grad_output.shape[2:]
    arguments = _arguments(
        *(VERSION_2, settings, input, weight),
        *(_head(offset, size), _head(mask, size)),
        bias if with_bias else None,
    )
    grads = _differentiate(grad_output, arguments)
    buffers = grad_input, grad_weight, grad_offset, grad_mask, grad_bias
    for buffer, grad in zip(buffers, grads, strict=True):
        if buffer.shape == grad.shape:
            buffer.copy_(grad)
        elif buffer.numel():
            missing = buffer[0].numel() - grad[0].numel()
            buffer.copy_(pad(grad.flatten(1), (0, missing)).view_as(buffer))


def _head(tensor: Tensor, size: torch.Size) -> Tensor:
    """The first values of each image, as if its maps were of ``size``.

    Raises:
        ValueError: there are not as many.
    """
    if tensor.shape[2:] == size:
        return tensor
    if tensor.shape[2:].numel() < size.numel():
        raise ValueError(
            'offsets and masks of a deformable convolution must be at least '
            f'as large as its output of {tuple(size)}, got '
            f'{tuple(tensor.shape[2:])}'
        )
    count = tensor.size(1) * size.numel()
    head = tensor.flatten(1)[:, :count]
    return head.view(len(tensor), tensor.size(1), *size)


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
