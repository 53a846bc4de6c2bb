"""Count multiply-adds, extending PyTorch's own counter.

`torch.utils.flop_counter` has formulas for most operations that multiply
matrices; the table here adds the missing ones. As in the papers, element-wise
operations, norms and pooling are not counted. Only shapes are read, so meta
tensors work too.

PyTorch counts a multiply-add as two operations; here it is one.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

Shape = tuple[int, ...]

# A formula takes an operation's arguments with shapes in place of tensors, and
# the shapes of its results as ``out_shape``. It returns multiply-adds, or None
# if they depend on values.


def _inner(left: Shape, *_, **__) -> int:
    """Product of a vector or a matrix with a vector."""
    return prod(left)


def _added(bias: Shape, left: Shape, right: Shape, *_, **__) -> int:
    return prod(left) * (right[-1] if len(right) > 1 else 1)


def _linear(x: Shape, weight: Shape, *_, **__) -> int:
    return prod(x) * weight[0]


def _attention(query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _self_attention(x: Shape, *args, layers: int = 2, **__) -> int:
    """Attention over (N, tokens, channels), with its linear layers."""
    batch, tokens, channels = x
    # Masks may be matrices, too; they come after the weights.
    matrices = [a for a in args if isinstance(a, torch.Size) and len(a) == 2]
    weights = sum(map(prod, matrices[:layers]))
    return batch * tokens * (weights + 2 * tokens * channels)


def _recurrent_layer(x: Shape, inward: Shape, inner: Shape, *_, **__) -> int:
    """One layer; each step multiplies input and state by their weights."""
    return prod(x[:-1]) * (prod(inward) + prod(inner))


def _recurrent_network(x: Shape, weights: list[Shape], *_, **__) -> int:
    """All layers at once, as cuDNN runs them; weight vectors are biases."""
    return prod(x[:-1]) * sum(prod(w) for w in weights if len(w) == 2)


def _bag(table: Shape, index: Shape, *_, **__) -> int:
    """Weighted sums of table rows, as in this package's PSRoI pooling."""
    return prod(index) * table[-1]


def _deformable(x: Shape, weight: Shape, *_, out_shape: Shape, **__) -> int:
    return prod(out_shape) * prod(weight[1:])


def _roi_align(
    x, rois, scale, height, width, samples, *_, out_shape, **__
) -> int | None:
    """Four neighbours for each of ``samples`` x ``samples`` points per bin."""
    pooled = out_shape
    if not isinstance(pooled, torch.Size):
        pooled, _ = out_shape
    # Adaptive sampling depends on the sizes of the boxes.
    return 4 * prod(pooled) * samples**2 if samples > 0 else None


FORMULAS: dict[str, Callable[..., int | None]] = {
    **dict.fromkeys(('aten::mv', 'aten::dot', 'aten::vdot'), _inner),
    **dict.fromkeys(('aten::addmv', 'aten::addbmm'), _added),
    'aten::linear': _linear,
    'aten::_scaled_dot_product_flash_attention_for_cpu': _attention,
    'aten::_scaled_dot_product_fused_attention_overrideable': _attention,
    'aten::_native_multi_head_attention': _self_attention,
    'aten::_transformer_encoder_layer_fwd': partial(_self_attention, layers=4),
    'aten::mkldnn_rnn_layer': _recurrent_layer,
    'aten::_cudnn_rnn': _recurrent_network,
    'aten::_embedding_bag': _bag,
    'aten::_embedding_bag_forward_only': _bag,
    'mmdet_shufflenetv2::row_sum': _bag,
    'torchvision::deform_conv2d': _deformable,
    'torchvision::roi_align': _roi_align,
    'torchvision::ps_roi_align': _roi_align,
}


def is_counted(func: torch._ops.OpOverload) -> bool:
    """Whether there is a formula for an operation."""
    packet = func._overloadpacket
    return func._schema.name in FORMULAS or packet in flop_registry


def macs_of(
    func: torch._ops.OpOverload, args: tuple, kwargs: dict, out: object
) -> int | None:
    """Count the multiply-adds of one call of an operation.

    Args:
        func: the operation, as passed to a dispatch mode.
        args, kwargs: its arguments.
        out: its result.

    Returns:
        0 for an operation without a formula; None if the number depends on
        values, as for nested tensors and adaptive RoI align.
    """
    if not is_counted(func):
        return 0
    leaves = tree_leaves((args, kwargs, out))
    if any(isinstance(leaf, Tensor) and leaf.is_nested for leaf in leaves):
        return None
    if formula := FORMULAS.get(func._schema.name):
        return shape_wrapper(formula)(*args, **kwargs, out_val=out)
    formula = flop_registry[func._overloadpacket]
    return formula(*args, **kwargs, out_val=out) // 2


class _Counter(TorchDispatchMode):
    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not is_counted(func):
            # Inference mode does not decompose `matmul` and others.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.total += macs_of(func, args, kwargs, out) or 0
        return out


def macs(function: Callable[..., object], *inputs: object) -> int:
    """Count the multiply-adds of one call, without gradients.

    Operations that depend on values, such as adaptive RoI align, count as 0.

    Args:
        function: a module or any other function that runs PyTorch.
        inputs: its arguments; on the meta device nothing is computed.

    Returns:
        the total for the whole batch.
    """
    with torch.no_grad(), _Counter() as counter:
        function(*inputs)
    return counter.total
