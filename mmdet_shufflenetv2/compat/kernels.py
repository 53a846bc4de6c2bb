"""The ops of ``mmcv._ext``, implemented with torch and torchvision.

Every op has the signature with which ``mmcv/ops/*.py`` calls the compiled
one: tensors first, settings as keywords, and most results written to buffers
from the caller. All ops compute in float32 at least, as torchvision does
under autocast.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, logsigmoid, pad

compiled = torch.ops.torchvision
#: Name -> op, for everything that models and configs of mmdet 3.3 use.
KERNELS: dict[str, Callable] = {}


def _kernel(function: Callable) -> Callable:
    KERNELS[function.__name__] = function
    return function


def not_offered(what: str) -> NotImplementedError:
    """The error for ops that the stand-in lacks."""
    return NotImplementedError(
        f'{what} needs mmcv._ext, which is not installed, and its stand-in '
        'does not support it. To use it, install mmcv with compiled ops '
        "instead of 'mmcv-lite': pip uninstall mmcv-lite; pip install "
        '--no-build-isolation "mmcv>=2.0.0,<2.2.0" (compiles for about 20 '
        'minutes)'
    )


def _full(tensor: Tensor) -> Tensor:
    """Convert ``tensor`` to float32; float64 stays as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _differentiate(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad_output: Tensor,
    buffers: Sequence[Tensor],
) -> None:
    """Recompute ``function`` and write its gradients to ``buffers``."""
    leaves = [_full(x).detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    grads = torch.autograd.grad(
        output, leaves, _full(grad_output), allow_unused=True
    )
    for buffer, grad in zip(buffers, grads, strict=True):
        if grad is not None:
            buffer.copy_(grad)


# Overlapping boxes. N boxes are (N, 4) corners x1, y1, x2, y2 in pixels; with
# ``offset`` 1, the old convention, a box from 0 to 0 is one pixel wide.


@_kernel
def nms(
    boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int
) -> Tensor:
    """Indices (K,) of the boxes kept, best score first."""
    boxes = _full(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return compiled.nms(boxes, scores.to(boxes.dtype), iou_threshold)


# Factors on the score of a box that overlaps a better one, in the order of
# mmcv.ops.soft_nms's numbers: 'naive', 'linear' and 'gaussian'.
SCORE_DECAYS = (
    lambda iou, threshold, sigma: iou < threshold,
    lambda iou, threshold, sigma: np.where(iou < threshold, 1, 1 - iou),
    lambda iou, threshold, sigma: np.exp(-iou * iou / sigma),
)


@_kernel
def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, **settings) -> Tensor:
    """Soft-NMS (arXiv 1704.04503), on the CPU.

    Uses NumPy, because a step is a dozen operations on short arrays.

    Writes the K boxes kept, with decayed scores, to ``dets`` (N, 5), and
    returns their indices.
    """
    corners = _full(boxes).detach().numpy()
    left = _full(scores).detach().numpy().copy()
    decay = SCORE_DECAYS[settings['method']]
    kept, kept_scores = [], []
    for _ in range(len(left)):
        best = int(left.argmax())
        if left[best] == -np.inf:
            break
        kept.append(best)
        kept_scores.append(float(left[best]))
        left[best] = -np.inf
        iou = _overlaps_of_one(corners[best], corners, settings['offset'])
        factor = decay(iou, settings['iou_threshold'], settings['sigma'])
        # Zero times minus infinity would bring a removed box back as NaN.
        np.multiply(left, factor, out=left, where=left > -np.inf)
        left[left < settings['min_score']] = -np.inf
    indices = torch.tensor(kept, dtype=torch.long)
    dets[: len(kept), :4] = boxes[indices]
    dets[: len(kept), 4] = torch.tensor(kept_scores, dtype=dets.dtype)
    return indices


def _overlaps_of_one(
    box: np.ndarray, boxes: np.ndarray, offset: int
) -> np.ndarray:
    """IoU (N,) of one box with each; 0 if neither has an area."""
    x1, y1, x2, y2 = boxes.T
    width = np.minimum(x2, box[2]) - np.maximum(x1, box[0]) + offset
    height = np.minimum(y2, box[3]) - np.maximum(y1, box[1]) + offset
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    own_area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    union = own_area + area - shared
    return np.divide(shared, union, where=union > 0, out=np.zeros_like(union))


@_kernel
def nms_match(dets: Tensor, *, iou_threshold: float) -> list[list[int]]:
    """Group the rows of ``dets`` (N, 5), x1, y1, x2, y2, score.

    Each group starts with a box that NMS keeps, followed by the boxes that it
    suppresses, best score first.
    """
    rows = _full(dets).numpy()
    order = np.argsort(-rows[:, 4], kind='stable')
    groups = []
    while len(order):
        best, rest = order[0], order[1:]
        iou = _overlaps_of_one(rows[best, :4], rows[rest, :4], offset=0)
        suppressed = iou >= iou_threshold
        groups.append([int(best), *rest[suppressed].tolist()])
        order = rest[~suppressed]
    return groups


# RoIs. Maps are (N, C, H, W); K RoIs are (K, 5) rows of image index, x1, y1,
# x2, y2 in pixels; pooled values are (K, C, PH, PW) with PH x PW bins.


# mmcv's names of torchvision's arguments, before and after the map's size.
ROI_ALIGN = itemgetter('spatial_scale', 'aligned_height', 'aligned_width')
ROI_SAMPLES = itemgetter('sampling_ratio', 'aligned')


@_kernel
def roi_align_forward(
    input: Tensor, rois: Tensor, output: Tensor, *argmax: Tensor, **settings
) -> None:
    """RoIAlign (arXiv 1703.06870, section 3) into ``output``."""
    if settings['pool_mode'] != 1:  # mmcv's number for 'avg'
        raise not_offered("RoIAlign with pool_mode='max'")
    values = _full(input)
    numbers = *ROI_ALIGN(settings), *ROI_SAMPLES(settings)
    output.copy_(compiled.roi_align(values, rois.to(values.dtype), *numbers))


@_kernel
def roi_align_backward(
    grad_output: Tensor, rois: Tensor, *tensors: Tensor, **settings
) -> None:
    """Write the gradient of the map to the last tensor."""
    grad, grad_input = _full(grad_output), tensors[-1]
    numbers = *ROI_ALIGN(settings), *grad_input.shape, *ROI_SAMPLES(settings)
    grad_input.copy_(
        compiled._roi_align_backward(grad, rois.to(grad.dtype), *numbers)
    )


@_kernel
def deform_roi_pool_forward(
    input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings
) -> None:
    """Deformable RoI pooling (arXiv 1703.06211, section 2.2).

    Args:
        offset: (K, 2, PH, PW), the shift of each bin in x and y in units of
            the RoI's size times ``gamma``; empty for no shift.
        output: Receives the averages of the shifted bins.
    """
    output.copy_(_pool_shifted(_full(input), rois, _full(offset), **settings))


@_kernel
def deform_roi_pool_backward(
    grad: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    *buffers,
    **settings,
) -> None:
    """Write the gradients of the map and the offsets to the buffers."""
    _differentiate(
        lambda values, shift: _pool_shifted(values, rois, shift, **settings),
        (input, offset),
        grad,
        buffers,
    )


def _pool_shifted(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Pool RoIs, in groups of the same image and sampling grid."""
    rois = rois.to(input.dtype)
    low = rois[:, 1:3] * spatial_scale - 0.5
    size = rois[:, 3:] * spatial_scale - 0.5 - low
    bin_size = size / rois.new_tensor([pooled_width, pooled_height])
    bins = _grid(rois, pooled_height, pooled_width)
    starts = low[:, None, None] + bin_size[:, None, None] * bins
    if offset.numel():
        shift = offset.to(input.dtype).permute(0, 2, 3, 1)
        starts = starts + gamma * size[:, None, None] * shift
    samples = bin_size.ceil()
    if sampling_ratio > 0:
        samples = torch.full_like(size, sampling_ratio)
    kinds, kind_of = torch.cat((rois[:, :1], samples), 1).unique(
        dim=0, return_inverse=True
    )
    output = input.new_zeros(
        len(rois), input.size(1), pooled_height, pooled_width
    )
    for kind, (image, wide, high) in enumerate(kinds.long().tolist()):
        if wide < 1 or high < 1:
            continue  # a RoI without area has no samples and pools to 0
        group = (kind_of == kind).nonzero()[:, 0]
        inside = _grid(rois, high, wide) + 0.5
        inside = (inside / rois.new_tensor([wide, high])).flatten(0, 1)
        points = inside * bin_size[group][:, None, None, None]
        output[group] = _averages(
            input[image], starts[group, :, :, None] + points
        )
    return output


def _grid(like: Tensor, high: int, wide: int) -> Tensor:
    """Integer positions (high, wide, 2) in x, y."""
    x, y = (torch.arange(count).to(like) for count in (wide, high))
    return torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)


def _averages(plane: Tensor, points: Tensor) -> Tensor:
    """Mean samples (k, C, PH, PW) of a map (C, H, W).

    Points are (k, PH, PW, samples, 2) in x, y. As in RoIAlign, a sample up to
    one pixel outside takes the border's value, and one farther out is 0.
    """
    shape, samples = points.shape[:3], points.size(3)
    extent = points.new_tensor(plane.shape[:0:-1])
    values = grid_sample(
        plane[None],
        ((2 * points + 1) / extent - 1).view(1, -1, samples, 2),
        padding_mode='border',
        align_corners=False,
    )[0]
    inside = ((points >= -1) & (points <= extent)).all(-1)
    means = (values * inside.view(1, -1, samples)).mean(-1)
    return means.view(-1, *shape).transpose(0, 1)


# Convolutions. Maps are (N, C, H, W); weights (O, C / groups, KH, KW); offsets
# (N, 2 * G * KH * KW, OH, OW), in y, x for each of G deformable groups and
# each tap; masks (N, G * KH * KW, OH, OW).

# mmcv's names of torchvision's arguments, in torchvision's order: stride,
# padding and dilation along y and x, groups, deformable groups.
VERSION_1 = itemgetter(
    *('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'),
    *('group', 'deformable_group'),
)
VERSION_2 = itemgetter(
    *('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w'),
    *('group', 'deformable_group'),
)


def _known(offset: Tensor) -> Tensor:
    """Move NaN far outside; mmcv reads 0 there, torchvision any memory."""
    return offset.nan_to_num(nan=-1e4)


def _version_1(
    input: Tensor, weight: Tensor, offset: Tensor, settings: dict
) -> tuple:
    """Arguments of torchvision's op, with all tensors in one precision."""
    input = _full(input)
    weight, offset = weight.to(input.dtype), _known(offset.to(input.dtype))
    no_mask = input.new_zeros(len(input), 1)
    no_bias = input.new_zeros(len(weight))
    tensors = input, weight, offset, no_mask, no_bias
    return *tensors, *VERSION_1(settings), False


def _version_2(tensors: tuple, size: torch.Size, settings: dict) -> tuple:
    """Arguments of torchvision's op, given mmcv's and the output's size."""
    input, weight, bias, _, offset, mask = tensors[:6]
    input = _full(input)
    if not settings['with_bias']:
        bias = input.new_zeros(len(weight))
    offset = _known(_head(offset, size))
    others = weight, offset, _head(mask, size), bias
    others = (x.to(input.dtype) for x in others)
    return input, *others, *VERSION_2(settings), True


def _deform_backward(grad_output: Tensor, arguments: tuple) -> list[Tensor]:
    """Gradients of map, weight, offset, mask and bias."""
    grads = list(
        compiled._deform_conv2d_backward(_full(grad_output), *arguments)
    )
    grads[2] = _without_border(grads[2], *arguments)
    return grads


def _without_border(
    grad: Tensor, input: Tensor, weight: Tensor, offset: Tensor, *others
) -> Tensor:
    """The gradient of offsets, zeroed where they point exactly at -1.

    As in mmcv; torchvision takes the derivative towards the inside. The zero
    offsets of a new layer with padding 1 point at such positions.
    """
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


@_kernel
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    *_,
    **settings,
) -> None:
    """Deformable convolution, version 1 (arXiv 1703.06211)."""
    arguments = _version_1(input, weight, offset, settings)
    output.copy_(compiled.deform_conv2d(*arguments))


@_kernel
def deform_conv_backward_input(*tensors: Tensor, **settings) -> None:
    """Gradients of the map and the offsets.

    The weight's gradient is computed too and left in ``columns``, a buffer
    that mmcv passes on to ``deform_conv_backward_parameters``.
    """
    input, offset, grad, by_input, by_offset, weight, columns = tensors
    arguments = _version_1(input, weight, offset, settings)
    grads = _deform_backward(grad, arguments)
    by_input.copy_(grads[0])
    columns.resize_(weight.shape).copy_(grads[1])
    by_offset.copy_(grads[2])


@_kernel
def deform_conv_backward_parameters(*tensors: Tensor, **settings) -> None:
    """Gradient of the weight, multiplied by the scale."""
    input, offset, grad, by_weight, columns, _ = tensors
    if columns.shape != by_weight.shape:
        # Neither the map nor the offsets needed a gradient.
        weight = torch.zeros_like(by_weight)
        arguments = _version_1(input, weight, offset, settings)
        columns = _deform_backward(grad, arguments)[1]
    by_weight.copy_(columns * settings['scale'])


@_kernel
def modulated_deform_conv_forward(*tensors: Tensor, **settings) -> None:
    """Deformable convolution, version 2 (arXiv 1811.11168)."""
    output = tensors[6]
    arguments = _version_2(tensors, output.shape[2:], settings)
    output.copy_(compiled.deform_conv2d(*arguments))


@_kernel
def modulated_deform_conv_backward(*tensors: Tensor, **settings) -> None:
    """All gradients; the bias's only if there is a bias."""
    by_input, by_weight, by_bias, by_offset, by_mask, grad = tensors[7:]
    arguments = _version_2(tensors, grad.shape[2:], settings)
    grads = _deform_backward(grad, arguments)
    buffers = by_input, by_weight, by_offset, by_mask, by_bias
    for buffer, value in zip(buffers, grads, strict=True):
        if buffer.shape == value.shape:
            buffer.copy_(value)
        elif buffer.numel():
            missing = buffer[0].numel() - value[0].numel()
            buffer.copy_(pad(value.flatten(1), (0, missing)).view_as(buffer))


def _head(tensor: Tensor, size: torch.Size) -> Tensor:
    """The first values of each image, reshaped to maps of ``size``.

    This is how mmcv reads offsets and masks larger than the output, which
    DyHead has.
    """
    if tensor.shape[2:] == size:
        return tensor
    if tensor.shape[2:].numel() < size.numel():
        raise ValueError(
            'offsets and masks of a deformable convolution: expected at least '
            f'the size of its output, {tuple(size)}, got '
            f'{tuple(tensor.shape[2:])}'
        )
    count = tensor.size(1) * size.numel()
    head = tensor.flatten(1)[:, :count]
    return head.view(len(tensor), tensor.size(1), *size)


@_kernel
def masked_im2col_forward(
    features: Tensor, rows: Tensor, columns: Tensor, output: Tensor, **settings
) -> None:
    """Patches (C * KH * KW, M) around M positions of a map (1, C, H, W)."""
    high, wide, pad_h, pad_w = itemgetter(
        'kernel_h', 'kernel_w', 'pad_h', 'pad_w'
    )(settings)
    padded = pad(features[0], (pad_w, pad_w, pad_h, pad_h))
    rows = rows + torch.arange(high).to(rows)[:, None, None]
    columns = columns + torch.arange(wide).to(columns)[:, None]
    output.copy_(padded[:, rows, columns].view_as(output))


@_kernel
def masked_col2im_forward(
    values: Tensor, rows: Tensor, columns: Tensor, output: Tensor, **_: int
) -> None:
    """Write columns (C, M) to their positions in ``output`` (1, C, H, W)."""
    output[0, :, rows, columns] = values


# CARAFE upsampling (arXiv 1905.02188). Features are (N, C, H, W) in G groups
# of channels, masks (N, G * K * K, S * H, S * W), output (N, C, S * H, S * W).
# Each output pixel is the sum of the K x K features around its source pixel,
# weighted by its own kernel.


@_kernel
def carafe_forward(features: Tensor, masks: Tensor, *buffers, **settings):
    """Write the upsampled features to the last buffer.

    The first buffer gets the features, as input of ``carafe_backward``.
    """
    buffers[0].copy_(features)
    buffers[-1].copy_(_upsample(_full(features), _full(masks), **settings))


@_kernel
def carafe_backward(
    grad: Tensor, rfeatures: Tensor, masks: Tensor, *buffers, **settings
) -> None:
    """Write the gradients of ``carafe_forward`` to the last two buffers."""
    _differentiate(
        lambda features, masks: _upsample(features, masks, **settings),
        (rfeatures.view_as(buffers[-2]), masks),
        grad,
        buffers[-2:],
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


# Multi-scale deformable attention (arXiv 2010.04159, equation 3). Values are
# (N, keys, heads, C), places (N, queries, heads, levels, points, 2) in 0..1,
# weights (N, queries, heads, levels, points). mmcv has its own code for the
# CPU and calls its compiled module for CUDA tensors only.


def _attend(
    value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor
) -> Tensor:
    # Imported late, because this module of mmcv itself imports KERNELS.
    from mmcv.ops import multi_scale_deform_attn as mmcvs

    return mmcvs.multi_scale_deformable_attn_pytorch(
        value, shapes, places, weights
    )


@_kernel
def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, _, places: Tensor, weights: Tensor, **__
) -> Tensor:
    """The attended values (N, queries, heads * C)."""
    output = _attend(_full(value), shapes, _full(places), _full(weights))
    return output.to(value.dtype)


@_kernel
def ms_deform_attn_backward(*tensors: Tensor, **_) -> None:
    """Write the gradients of values, places and weights to the last ones."""
    value, shapes, _, places, weights, grad, *buffers = tensors
    _differentiate(
        lambda v, p, w: _attend(v, shapes, p, w),
        (value, places, weights),
        grad,
        buffers,
    )


# Sigmoid focal loss (arXiv 1708.02002). Logits are (N, C); ``target`` (N,) has
# class indices, where any index out of range means background; ``weight`` is
# (C,), or empty for no weights.


def _by_class(
    target: Tensor, weight: Tensor, positive: Tensor, negative: Tensor
) -> Tensor:
    """``positive`` at the sample's class, ``negative`` elsewhere, weighted."""
    classes = torch.arange(positive.size(1), device=target.device)
    value = torch.where(target[:, None] == classes, positive, negative)
    if not weight.numel():
        return value
    known = (target >= 0) & (target < len(weight))
    factor = torch.where(known, weight[target.where(known, 0)], 1)
    return value * factor[:, None]


@_kernel
def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Write the loss of every logit to ``output`` (N, C)."""
    x = _full(input)
    p = x.sigmoid()
    positive = -alpha * (1 - p) ** gamma * logsigmoid(x)
    negative = (alpha - 1) * p**gamma * logsigmoid(-x)
    output.copy_(_by_class(target, weight, positive, negative))


@_kernel
def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each loss to ``grad_input`` (N, C)."""
    x = _full(input)
    p, q = x.sigmoid(), 1 - x.sigmoid()
    positive = -alpha * q**gamma * (q - gamma * p * logsigmoid(x))
    negative = (alpha - 1) * p**gamma * (gamma * q * logsigmoid(-x) - p)
    grad_input.copy_(_by_class(target, weight, positive, negative))
