"""Formulas of the operations that the analyser counts."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from ..measure.convolution import Convolution

# A formula takes the arguments and the result tensors of a call, and gives
# the multiply-adds, None where they follow from values, and the layer if the
# operation is a convolution of one or two dimensions.
Counted = tuple[int | None, Convolution | None]
Formula = Callable[[tuple, list[Tensor]], Counted]


def _as_2d(size: Sequence[int]) -> tuple[int, int]:
    return (1, *size) if len(size) == 1 else tuple(size)


def _convolution(
    x: Tensor, weight: Tensor, out: Tensor, groups: int, transposed: bool
) -> tuple[int, Convolution | None]:
    """Multiply-adds, and the layer where it has one or two dimensions."""
    batch, in_channels, *in_size = x.shape
    out_channels, out_size = out.shape[1], out.shape[2:]
    places = math.prod(in_size if transposed else out_size)
    flops = batch * places * weight.numel()
    if len(in_size) > 2 or not flops:
        return flops, None
    return flops, Convolution(
        in_channels,
        out_channels,
        _as_2d(in_size),
        _as_2d(out_size),
        _as_2d(weight.shape[2:]),
        groups,
        batch,
        transposed,
    )


def _aten_convolution(args, out):
    transposed, groups = args[6], args[8]
    return _convolution(args[0], args[1], out[0], groups, transposed)


def _deformable(args, out):
    x, weight = args[:2]
    groups = x.shape[1] // weight.shape[1]
    return _convolution(x, weight, out[0], groups, False)


def _product(args, out):
    """Of the last two tensors; a bias may come first."""
    left = [a for a in args if isinstance(a, Tensor)][-2]
    return out[0].numel() * left.shape[-1], None


def _linear(args, out):
    return out[0].numel() * args[0].shape[-1], None


def _attention(args, out):
    query, key, value = args[:3]
    scores = query.shape[:-1].numel() * key.shape[-2]
    return scores * (query.shape[-1] + value.shape[-1]), None


def _self_attention(args, out):
    """Of PyTorch's fast paths: attention and all products around it."""
    x = args[0]
    batch, tokens, channels = x.shape
    weights = sum(
        a.numel() for a in args if isinstance(a, Tensor) and a.dim() == 2
    )
    return batch * tokens * (weights + 2 * tokens * channels), None


def _recurrent_layer(args, out):
    """Every step is the product of its input and state and the weights."""
    x, *weights = args[:3]
    steps = x.shape[:-1].numel()
    return steps * sum(weight.numel() for weight in weights), None


def _recurrent_network(args, out):
    """As on GPUs, with a list of all layers' weights and biases."""
    x, weights = args[:2]
    steps = x.shape[:-1].numel()
    return steps * sum(w.numel() for w in weights if w.dim() == 2), None


def _embedding_bag(args, out):
    """Position-sensitive RoI pooling is a weighted sum of table rows."""
    table, taps = args[:2]
    return taps.numel() * table.shape[1], None


def _row_sum(args, out):
    """This package's own op, of several groups of bags."""
    return sum(taps.numel() for taps in args[1]) * args[0].shape[-1], None


def _roi_align(args, out):
    samples = args[5]
    # Without a number of samples it follows from the boxes' values.
    flops = 4 * out[0].numel() * samples**2 if samples > 0 else None
    return flops, None


FLOPS: dict[str, Formula] = {
    'aten::convolution': _aten_convolution,
    'torchvision::deform_conv2d': _deformable,
    **dict.fromkeys(
        (f'aten::{name}' for name in ('mm', 'addmm', 'bmm', 'baddbmm', 'mv')),
        _product,
    ),
    'aten::linear': _linear,
    **dict.fromkeys(
        (
            f'aten::_scaled_dot_product_{name}'
            for name in (
                'flash_attention',
                'flash_attention_for_cpu',
                'efficient_attention',
                'cudnn_attention',
                'attention_math',
                'fused_attention_overrideable',
            )
        ),
        _attention,
    ),
    'aten::_native_multi_head_attention': _self_attention,
    'aten::_transformer_encoder_layer_fwd': _self_attention,
    'aten::mkldnn_rnn_layer': _recurrent_layer,
    'aten::_cudnn_rnn': _recurrent_network,
    'aten::_embedding_bag': _embedding_bag,
    'aten::_embedding_bag_forward_only': _embedding_bag,
    'mmdet_shufflenetv2::row_sum': _row_sum,
    'torchvision::roi_align': _roi_align,
}
