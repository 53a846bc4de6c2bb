"""Pooling of regions of interest.

Shapes: a map of (N, C, H, W), K RoIs as (K, 5) rows of image index, x1, y1,
x2, y2 in pixels, P bins a side; pooled values are (K, C, P, P).
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from .precision import full_precision

MAX, AVERAGE = 0, 1  # mmcv's numbers for the two pool modes


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (arXiv 1703.06870) into ``output``."""
    values = full_precision(input)
    output.copy_(
        torch.ops.torchvision.roi_align(
            values,
            rois.to(values.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of ``roi_align_forward`` into ``grad_input``."""
    grad = full_precision(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad,
            rois.to(grad.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )
