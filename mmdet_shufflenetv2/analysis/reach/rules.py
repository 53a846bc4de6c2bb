"""What operations do to boxes of pixels, each kind by one rule.

A rule is a function of a call and gives the boxes of its results. An
operation without a rule cannot be followed, and what comes after it is said
to be unknown.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .calls import Call, fit, over, together
from .windows import convolved, interpolated, pooled, pooled_to_a_size


def elementwise(call: Call) -> list[Tensor]:
    """Every element depends on those at its place."""
    first = call.outputs[0].shape
    found = together(first, *call.boxes.values())
    # Results of another shape are statistics, of which nothing is used.
    return [
        found if out.shape == first else fit(call.of(None), out.shape)
        for out in call.outputs
    ]


def moved(call: Call) -> list[Tensor]:
    """Values change places, so boxes do what the values did."""

    def side(index: int) -> list[Tensor]:
        def replaced(value: object) -> object:
            if not isinstance(value, Tensor):
                return value
            if id(value) in call.boxes:
                # In-place work must not reach into what was read.
                return call.boxes[id(value)][index].clone()
            if value.is_floating_point():
                return torch.zeros_like(value, dtype=torch.float32)
            return value

        args, kwargs = tree_map(replaced, (call.args, call.kwargs))
        if call.func._schema.name == 'aten::constant_pad_nd':
            # Whatever it pads with comes from nowhere.
            args, kwargs = (*args[:2], 0.0), {}
        found = call.func(*args, **kwargs)
        return [found] if isinstance(found, Tensor) else list(found)

    sides = zip(*map(side, range(4)), strict=True)
    return [torch.stack(each) for each in sides]


def reduced_dims(call: Call) -> list[int]:
    """The dimensions that a reduction goes over."""
    dims = call.argument('dim')
    count = call.args[0].dim()
    dims = [dims] if isinstance(dims, int) else list(dims or range(count))
    return [dim % count for dim in dims] if count else []


def reduced(call: Call) -> list[Tensor]:
    """A mean, sum or extreme depends on all it goes over."""
    around = over(call.of(call.args[0]), reduced_dims(call))
    return [
        around.reshape(4, *out.shape)
        if around[0].numel() == out.numel()
        else fit(around, out.shape)
        for out in call.outputs
    ]


def accumulated(call: Call) -> list[Tensor]:
    """A running sum depends on all before."""
    boxes = call.of(call.args[0])
    dim = call.argument('dim') % (boxes.dim() - 1) + 1
    return [torch.cummax(boxes, dim).values]


def softmax_statistics(call: Call) -> Tensor:
    """What a softmax divides by."""
    return over(call.of(call.args[0]), [call.argument('dim')])


def layer_norm_statistics(call: Call) -> Tensor:
    """What a layer norm subtracts and divides by."""
    shape = call.argument('normalized_shape')
    return over(call.of(call.args[0]), range(-len(shape), 0))


def map_statistics(call: Call) -> Tensor:
    """What norms with statistics of an image subtract and divide by."""
    boxes = call.of(call.args[0])
    return over(boxes, range(1, boxes.dim() - 1))


def product(call: Call) -> list[Tensor]:
    """A matrix product goes over a row of one and a column of the other."""
    *bias, left, right = (a for a in call.args if isinstance(a, Tensor))
    rows = over(call.of(left), [-1])
    right = call.of(right)
    columns = over(right, [-2] if right.dim() > 2 else [-1])
    if right.dim() == 2:
        # Of a vector there is one column, which mv leaves out.
        rows = rows[..., 0]
    (out,) = call.outputs
    return [together(out.shape, rows, columns, *map(call.of, bias))]


def linear(call: Call) -> list[Tensor] | None:
    """A linear layer goes over the last dimension."""
    (out,) = call.outputs
    if [*call.boxes] != [id(call.args[0])]:
        # Weights that are made from the image.
        return None
    return [fit(over(call.of(call.args[0]), [-1]), out.shape)]


def gated(call: Call) -> list[Tensor]:
    """One half of the channels is multiplied by the other."""
    boxes = call.of(call.args[0])
    dim = call.argument('dim', -1) % (boxes.dim() - 1) + 1
    return [torch.maximum(*boxes.chunk(2, dim))]


def attention(call: Call) -> list[Tensor]:
    """A query depends on itself and on all keys and values."""
    query, key, value = map(call.of, call.args[:3])
    out = call.outputs[0]
    others = [over(each, (-2, -1)) for each in (key, value)]
    # A bias of the scores may be made from the queries.
    known = {id(each) for each in call.args[:3]}
    biases = [
        over(boxes, [-1])
        for tensor, boxes in call.boxes.items()
        if tensor not in known
    ]
    first = together(out.shape, over(query, [-1]), *others, *biases)
    # What attention returns besides serves its gradient only.
    nothing = call.of(None)
    return [first, *(fit(nothing, o.shape) for o in call.outputs[1:])]


def recurrent(call: Call) -> list[Tensor]:
    """A step depends on those before, (steps, N, C), the state on all."""
    boxes = over(call.of(call.args[0]), [-1])
    if call.argument('reverse'):
        past = torch.cummax(boxes.flip(1), 1).values.flip(1)
    else:
        past = torch.cummax(boxes, 1).values
    first, *states = call.outputs
    last = boxes.amax(1)
    return [
        fit(past, first.shape),
        *(
            fit(last if state.dim() == 2 else last[:, None], state.shape)
            if state.dim() in (2, 3)
            else call.of(state)
            for state in states
        ),
    ]


Rule = Callable[[Call], list[Tensor] | None]


def _rules(rule: Rule, *names: str) -> dict[str, Rule]:
    return {f'aten::{name}': rule for name in names}


# What PyTorch does not tag as element-wise.
ELEMENTWISE: dict[str, Rule] = _rules(
    elementwise,
    *('copy_', '_to_copy', 'hardswish', 'hardswish_', 'mish_', 'gelu_'),
    *('threshold_', 'masked_fill_', '_prelu_kernel', 'prelu'),
    *('log_sigmoid_forward', 'native_dropout', 'bernoulli'),
    *('native_batch_norm', '_native_batch_norm_legit_no_training'),
    *('cudnn_batch_norm', 'batch_norm_with_update', '_batch_norm_no_update'),
)
REDUCTIONS: dict[str, Rule] = _rules(
    reduced,
    *('mean', 'sum', 'amax', 'amin', 'max', 'min', 'var', 'std', 'prod'),
    *('var_mean', 'std_mean', 'logsumexp', 'linalg_vector_norm', 'norm'),
    *('argmax', 'argmin', 'any', 'all'),
)
MOVES: dict[str, Rule] = _rules(
    moved,
    *('cat', 'stack', 'roll', 'flip', 'repeat', 'constant_pad_nd'),
    *('reflection_pad1d', 'reflection_pad2d', 'replication_pad2d'),
    *('index', 'index_select', 'gather', 'tril', 'triu', 'im2col'),
    *('pixel_shuffle', 'pixel_unshuffle', 'native_channel_shuffle'),
    *('slice_scatter', 'select_scatter', 'index_put', 'index_put_'),
    *('upsample_nearest1d', 'upsample_nearest2d', 'upsample_nearest3d'),
    *('_upsample_nearest_exact2d', 'take_along_dim', 'narrow_copy'),
    *('channel_shuffle', 'view_copy', 'as_strided_copy'),
)
# These may reach everywhere, so their results are looked at for that.
MIXING: dict[str, Rule] = {
    **REDUCTIONS,
    **_rules(product, 'mm', 'bmm', 'addmm', 'baddbmm', 'mv'),
    **_rules(linear, 'linear'),
    **_rules(
        attention,
        *('_scaled_dot_product_flash_attention_for_cpu',),
        *('_scaled_dot_product_flash_attention',),
        *('_scaled_dot_product_efficient_attention',),
        *('_scaled_dot_product_cudnn_attention',),
        *('_scaled_dot_product_attention_math',),
        *('_scaled_dot_product_fused_attention_overrideable',),
    ),
    **_rules(recurrent, 'mkldnn_rnn_layer'),
    **_rules(pooled_to_a_size, '_adaptive_avg_pool2d', 'adaptive_max_pool2d'),
}
RULES: dict[str, Rule] = {
    **ELEMENTWISE,
    **MOVES,
    **MIXING,
    **_rules(accumulated, 'cumsum'),
    **_rules(gated, 'glu'),
    **_rules(convolved, 'convolution'),
    **_rules(pooled, 'avg_pool2d', 'max_pool2d_with_indices'),
    **_rules(pooled, 'avg_pool3d', 'max_pool3d_with_indices'),
    **_rules(interpolated, 'upsample_bilinear2d', 'upsample_bicubic2d'),
}
# Each element stays, and statistics are taken of many.
STATISTICS: dict[str, Callable[[Call], Tensor]] = {
    'aten::_softmax': softmax_statistics,
    'aten::_log_softmax': softmax_statistics,
    'aten::_safe_softmax': softmax_statistics,
    'aten::native_layer_norm': layer_norm_statistics,
    'aten::_fused_rms_norm': layer_norm_statistics,
    'aten::native_group_norm': map_statistics,
}
