"""The project's one counter of multiply-adds, on PyTorch's own.

`torch.utils.flop_counter` has a formula for each operation that multiplies
matrices, as far as it goes; the table here adds what it lacks. Element-wise
work, norms and pooling count nothing, as in the papers. Nothing but shapes is
read, so meta tensors will do.

PyTorch's counter takes a multiply-add for two operations; here it is one.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

Shape = tuple[int, ...]

# Every formula takes an operation's arguments with shapes for tensors, and
# the shapes of its results as ``out_shape``; it returns multiply-adds, None
# where they depend on values.


def _inner(left: Shape, *_, **__) -> int:
    """A vector with a vector, or a matrix with one."""
    return prod(left)


def _added(bias: Shape, left: Shape, right: Shape, *_, **__) -> int:
    return prod(left) * (right[-1] if len(right) > 1 else 1)


def _linear(x: Shape, weight: Shape, *_, **__) -> int:
    return prod(x) * weight[0]


def _attention(query: Shape, key: Shape, value: Shape, *_, **__) -> int:
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _self_attention(x: Shape, *args, **__) -> int:
    """Attention over (N, tokens, channels) and the products around it."""
    batch, tokens, channels = x
    weights = sum(
        prod(a) for a in args if isinstance(a, torch.Size) and len(a) == 2
    )
    return batch * tokens * (weights + 2 * tokens * channels)


def _recurrent_layer(x: Shape, inward: Shape, inner: Shape, *_, **__) -> int:
    """Each step multiplies its input and its state by their weights."""
    return prod(x[:-1]) * (prod(inward) + prod(inner))


def _recurrent_network(x: Shape, weights: list[Shape], *_, **__) -> int:
    """All layers at once, as on GPUs; vectors are biases."""
    return prod(x[:-1]) * sum(prod(w) for w in weights if len(w) == 2)


def _bag(table: Shape, index: Shape, *_, **__) -> int:
    """Weighted sums of rows; PSRoI pooling is some."""
    return prod(index) * table[-1]


def _deformable(x: Shape, weight: Shape, *_, out_shape: Shape, **__) -> int:
    return prod(out_shape) * prod(weight[1:])


def _roi_align(
    x, rois, scale, height, width, samples, *_, out_shape, **__
) -> int | None:
    """Four neighbours for each of ``samples`` x ``samples`` points."""
    pooled = out_shape
    if not isinstance(pooled, torch.Size):
        pooled, _ = out_shape
    # Without a number of samples it follows from the boxes' sizes.
    return 4 * prod(pooled) * samples**2 if samples > 0 else None


FORMULAS: dict[str, Callable[..., int | None]] = {
    **dict.fromkeys(('aten::mv', 'aten::dot', 'aten::vdot'), _inner),
    **dict.fromkeys(('aten::addmv', 'aten::addbmm'), _added),
    'aten::linear': _linear,
    'aten::_scaled_dot_product_flash_attention_for_cpu': _attention,
    'aten::_scaled_dot_product_fused_attention_overrideable': _attention,
    'aten::_native_multi_head_attention': _self_attention,
    'aten::_transformer_encoder_layer_fwd': _self_attention,
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
    """Multiply-adds of one call of an operation.

    Args:
        func: the operation, as a dispatch mode gets it.
        args, kwargs: what it was called with.
        out: what it returned.

    Returns:
        0 for an operation without a formula; None where it depends on
        values, as those of nested tensors or adaptive RoI align do.
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
            # Inference mode leaves `matmul` and others whole.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.total += macs_of(func, args, kwargs, out) or 0
        return out


def macs(function: Callable[..., object], *inputs: object) -> int:
    """Multiply-adds of one call, without gradients.

    What depends on values, as adaptive RoI align does, counts nothing.

    Args:
        function: a module, or whatever runs PyTorch.
        inputs: what to call it with; on the meta device nothing is computed.

    Returns:
        of the whole batch.
    """
    with torch.no_grad(), _Counter() as counter:
        function(*inputs)
    return counter.total
