"""Multi-scale deformable attention (arXiv 2010.04159, equation 3).

mmcv brings the formula in terms of ``grid_sample`` for the CPU and asks its
compiled module only for CUDA tensors; the stand-in uses the formula there
too.

Shapes: values (N, keys, heads, C), places (N, queries, heads, levels,
points, 2) in 0..1, weights (N, queries, heads, levels, points).
"""

from torch import Tensor

from . import differentiate, full_precision


def _attend(
    value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor
) -> Tensor:
    # mmcv imports this package's table while it imports this very module.
    from mmcv.ops.multi_scale_deform_attn import (
        multi_scale_deformable_attn_pytorch,
    )

    return multi_scale_deformable_attn_pytorch(value, shapes, places, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """The attended values (N, queries, heads * C)."""
    tensors = (value, sampling_locations, attention_weights)
    values, places, weights = map(full_precision, tensors)
    output = _attend(values, value_spatial_shapes, places, weights)
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    *buffers: Tensor,
    im2col_step: int,
) -> None:
    """Gradients by values, places and weights into the three buffers."""
    differentiate(
        lambda v, p, w: _attend(v, value_spatial_shapes, p, w),
        (value, sampling_locations, attention_weights),
        grad_output,
        buffers,
    )
