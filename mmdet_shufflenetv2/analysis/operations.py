"""Classify a PyTorch operation and count its multiply-adds and bytes moved.

The kinds are those of the paper's Figure 2, with matrix products and pooling
separated from "other". Bytes count each element that must be read or written
once: views are free, an expanded tensor counts its stored elements, a lookup
reads only the elements it selects, and an in-place operation writes only the
elements it changes.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..measure.flops import is_counted, macs_of
from .convolution import Convolution

VIEW = 'view'
CONVOLUTION = 'convolution'
MATRIX = 'matrix product'
ELEMENTWISE = 'element-wise'
SHUFFLE = 'shuffle'
DATA = 'data movement'
POOLING = 'pooling'
POST = 'post-processing'
OTHER = 'other'
KINDS = CONVOLUTION, MATRIX, ELEMENTWISE, SHUFFLE, DATA, POOLING, POST, OTHER
BETWEEN = 'between operations'


@dataclass(frozen=True)
class Operation:
    """One executed operation.

    Attributes:
        kind: one of ``KINDS``, or ``VIEW``.
        flops: multiply-adds; None if they depend on values, or if the work
            is of another sort, such as that of NMS.
        bytes: bytes read and written.
        inputs, outputs: shapes of the tensors.
        owner: path of the module whose code made the call.
        call: number of that module's call, from 1; shared heads are called
            several times.
        function: name of the calling function.
        sources: indices of the operations that wrote its inputs.
        params: parameters that no operation before has read.
    """

    name: str
    kind: str
    flops: int | None = None
    bytes: int = 0
    convolution: Convolution | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()
    owner: str = ''
    call: int = 1
    function: str = ''
    sources: frozenset[int] = frozenset()
    params: int = 0


def tensors_of(values: object) -> list[Tensor]:
    """All tensors in arguments or results, however nested."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> int:
    """Address of a tensor's storage; 0 if it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


# Kinds that PyTorch's tags do not tell, by patterns of operation names;
# the first match counts.
_KINDS = {
    CONVOLUTION: 'convolution|deform_conv|(_|:)conv(_|3d)',
    SHUFFLE: 'channel_shuffle|pixel_shuffle|pixel_unshuffle',
    POOLING: 'pool|roi_align|embedding_bag|row_sum|::mean|::amax',
    MATRIX: (
        '(_|:)(add|addb|baddb|b)?mm(_|$)|(_|:)(add)?mv$|(_|:)v?dot$|(_|:)linear$|'
        'dot_product|multi_head|transformer_encoder_layer|_rnn|lstm|gru_cell'
    ),
    ELEMENTWISE: '_norm|softmax|swish|mish|prelu|dropout',
    DATA: (
        'clone|copy|::cat$|stack|empty|upsample|index|gather|scatter|'
        'embedding|(_|:)pad|repeat|arange|zeros|ones|full|fill|zero_|'
        'flip|roll|masked_select|grid_sampler|im2col|lift|resize|as_strided|'
        'tril|triu|take|::put'
    ),
}
# Considerable work other than multiply-adds, to be listed as not counted.
_NAMED = re.compile(
    'nms|roi|sort|topk|kthvalue|median|unique|hist|multinomial|fft|[cp_]dist|'
    'trilinear|solve|chol|geqrf|ormqr|linalg_(?!vector_norm|cross|check)'
)


def _kind_of(func: torch._ops.OpOverload) -> str:
    for kind, pattern in _KINDS.items():
        if re.search(pattern, func._schema.name):
            return kind
    return ELEMENTWISE if torch.Tag.pointwise in func.tags else OTHER


def operation_of(
    func: torch._ops.OpOverload, args: tuple, kwargs: dict, out: object
) -> Operation:
    """Describe any call of an operation; never raises."""
    kind, name, convolution = _kind_of(func), func._schema.name, None
    # The work of other projects' operations is unknown.
    is_foreign = kind == OTHER and not name.startswith(('aten::', 'prim'))
    is_work = kind in (CONVOLUTION, MATRIX) or is_foreign
    try:
        if _is_view(func, args, kwargs, out):
            kind, flops, moved = VIEW, 0, 0
        else:
            flops = macs_of(func, args, kwargs, out)
            moved = _bytes_of(func, args, kwargs, out)
            if not is_counted(func) and (is_work or _NAMED.search(name)):
                flops = None
        if flops and kind == CONVOLUTION:
            convolution = _convolution(name, args, tensors_of(out)[0])
    except Exception:
        # List operations on unusual tensors as not counted, instead of
        # failing the analysis.
        flops, moved = None, 0
    shapes = [
        tuple(() if t.is_nested else tuple(t.shape) for t in tensors_of(each))
        for each in ((args, kwargs), out)
    ]
    return Operation(name, kind, flops, moved, convolution, *shapes)


def _is_view(func, args, kwargs, out) -> bool:
    """Whether the result shares the memory of an unchanged argument."""
    outputs = tensors_of(out)
    if func.is_view or func._schema.is_mutable or not outputs:
        return func.is_view
    place = storage_of(outputs[0])
    return place != 0 and place in map(storage_of, tensors_of((args, kwargs)))


def _convolution(name: str, args: tuple, out: Tensor) -> Convolution | None:
    """The shapes of a convolution with one or two dimensions."""
    x, weight = args[:2]
    if x.dim() not in (3, 4):
        return None
    groups, how = x.shape[1] // weight.shape[1], {}
    if name == 'aten::convolution':
        stride, padding, dilation, transposed, _, groups = args[3:9]
        how = dict(
            transposed=transposed,
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            in_strides=x.stride() if x.dim() == 4 else None,
        )
    sizes = [(1, *t.shape[2:])[-2:] for t in (x, out, weight)]
    channels = x.shape[1], out.shape[1]
    return Convolution(*channels, *sizes, groups, len(x), **how)


_NOTHING_MOVES = re.compile('empty|resize|aten::set_')
# These do not read the tensor that they overwrite or whose shape they use.
_ONLY_WRITES = re.compile(
    '(fill|zero|copy|normal|uniform|random|bernoulli|exponential)_$'
    '|_like$|::new_'
)
# These read elements of their first argument that the others select.
_LOOKUPS = re.compile(
    'aten::(_unsafe_)?(index|index_select|gather|take|embedding|'
    'masked_select)$'
)
# These change in place the elements that an index or a mask selects.
_CHANGES = re.compile('masked_(fill|scatter)|index_|scatter|::put_')


def _bytes_of(func, args, kwargs, out) -> int:
    """Bytes that an operation other than a view reads and writes."""
    name, arguments = func._schema.name, func._schema.arguments
    if _NOTHING_MOVES.search(name):
        return 0
    changed, read = [], []
    for index, argument in enumerate(arguments):
        given = args[index] if index < len(args) else kwargs.get(argument.name)
        alias = argument.alias_info
        is_changed = alias is not None and alias.is_write
        (changed if is_changed else read).extend(tensors_of(given))
    written = _total(tensors_of(out) or changed)
    if changed and _CHANGES.search(name):
        return _total(read) + _changed(name, changed[0], args)
    if _ONLY_WRITES.search(name):
        return written + (_total(read) if changed else 0)
    if 'embedding_bag' in name:
        table, taps = read[:2]
        rows = taps.numel() * table.shape[1] * table.element_size()
        return rows + _total(read[1:]) + _total(tensors_of(out)[:1])
    if _LOOKUPS.search(name):
        return _total(read[1:]) + 2 * written
    if any(argument.is_out for argument in arguments):
        changed = []
    return _total(read) + _total(changed) + written


def _total(tensors: Iterable[Tensor]) -> int:
    """Bytes of stored elements; expanded dimensions have a stride of 0."""
    total = 0
    for tensor in tensors:
        elements = tensor.numel()
        if tensor.layout == torch.strided and not tensor.is_nested:
            sides = zip(tensor.shape, tensor.stride(), strict=True)
            elements = math.prod(n for n, stride in sides if stride or not n)
        total += elements * tensor.element_size()
    return total


def _changed(name: str, target: Tensor, args: tuple) -> int:
    """Bytes of the selected elements: written, and read if added to."""
    index = (tensors_of(args[1]) or tensors_of(args[2]))[0]
    if 'masked' in name:
        elements = int(index.expand_as(target).count_nonzero())
    elif 'index_put' in name:
        places = (slice(None) if i is None else i for i in args[1])
        elements = target[tuple(places)].numel()
    elif 'index' in name:
        elements = index.numel() * target.numel() // target.shape[args[1]]
    else:
        elements = index.numel()
    adds = re.search('add|reduce', name) or any(a is True for a in args[3:4])
    return (2 if adds else 1) * elements * target.element_size()
