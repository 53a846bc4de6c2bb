"""What one operation of PyTorch is: its kind, multiply-adds, bytes moved.

The kinds are those of the paper's Figure 2, with matrix products and
pooling taken out of "other". Everything a network executes passes here as an
`aten` or custom operation, whether a module, a function or an operator
started it, so nothing has to be registered to be seen.

FLOPs are the multiply-adds of convolutions, matrix products, attention,
recurrent layers and RoI pooling; element-wise work is not among them, as in
the paper. Bytes are those of what must be read and written, each once: views
are free, a tensor that was expanded counts as what is stored.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .cost import FLOPS, Convolution

VIEW = 'view'
CONVOLUTION = 'convolution'
MATRIX = 'matrix product'
ELEMENTWISE = 'element-wise'
SHUFFLE = 'shuffle'
DATA = 'data movement'
POOLING = 'pooling'
POST = 'post-processing'
OTHER = 'other'
KINDS = (
    CONVOLUTION,
    MATRIX,
    ELEMENTWISE,
    SHUFFLE,
    DATA,
    POOLING,
    POST,
    OTHER,
)


@dataclass(frozen=True)
class Window:
    """How a convolution goes over its input, to run it again.

    Attributes:
        stride, padding, dilation: as `torch.nn.functional` takes them.
        in_shape, in_strides: the input's, in elements.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    in_shape: tuple[int, ...]
    in_strides: tuple[int, ...]

    @property
    def has_gaps(self) -> bool:
        """Whether elements of other tensors lie between the input's."""
        sides = zip(self.in_shape, self.in_strides, strict=True)
        reach = sum((n - 1) * stride for n, stride in sides)
        return reach + 1 > math.prod(self.in_shape)

    @property
    def channels_last(self) -> bool:
        """Whether neighbours in memory are neighbouring channels."""
        return self.in_shape[1] > 1 and self.in_strides[1] == 1


@dataclass(frozen=True)
class Work:
    """What an operation does.

    Attributes:
        kind: one of ``KINDS``, or ``VIEW``.
        flops: multiply-adds; None where they depend on values or are no
            multiply-adds, as those of NMS.
        bytes: to be read and written.
        convolution: the layer, if it is a 1D or 2D convolution.
        window: how it goes over its input.
    """

    kind: str
    flops: int | None
    bytes: int
    convolution: Convolution | None = None
    window: Window | None = None


def tensors_of(values: object) -> list[Tensor]:
    """The tensors among arguments or results, nested ones too."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape; none of a nested one, whose rows differ."""
    return () if tensor.is_nested else tuple(tensor.shape)


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements."""
    if tensor.is_nested:
        return tensor.numel() * tensor.element_size()
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    # Expanding repeats an element by a stride of 0.
    distinct = math.prod(n for n, stride in sides if stride or not n)
    return distinct * tensor.element_size()


def _total(tensors: Iterable[Tensor]) -> int:
    return sum(map(stored_bytes, tensors))


def _same_storage(a: Tensor, b: Tensor) -> bool:
    return (
        a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0
    )


# Kinds that neither the table of FLOPs nor PyTorch's own tags can tell. The
# first row whose word is part of the operation's name holds.
_KIND_OF_WORD = (
    (CONVOLUTION, ('convolution', 'deform_conv')),
    (SHUFFLE, ('channel_shuffle', 'pixel_shuffle', 'pixel_unshuffle')),
    (POOLING, ('pool', 'roi_align', 'embedding_bag', 'aten::mean')),
    (
        MATRIX,
        (
            *('mm', 'dot_product', 'aten::linear', 'aten::mv', 'multi_head'),
            *('dot', 'transformer_encoder_layer', '_rnn', 'lstm', 'gru_cell'),
        ),
    ),
    (ELEMENTWISE, ('_norm', 'softmax', 'swish', 'mish', 'prelu', 'dropout')),
    (
        DATA,
        (
            *('clone', 'copy', 'aten::cat', 'stack', 'empty', 'upsample'),
            *('index', 'gather', 'scatter', 'embedding', 'pad', 'repeat'),
            *('arange', 'zeros', 'ones', 'full', 'fill', 'zero_', 'flip'),
            *('roll', 'masked_select', 'grid_sampler', 'im2col', 'lift'),
            *('select_backward', 'resize', 'as_strided', 'tril', 'triu'),
        ),
    ),
)
# Work that is no multiply-adds, and enough of it to be named.
_NAMED = (
    *('nms', 'roi', 'sort', 'topk', 'unique', 'fft', 'cdist', 'trilinear'),
    *('linalg_inv', 'linalg_eig', 'linalg_svd', 'linalg_lu', 'solve'),
)
# These read as much as they write, wherever their table is.
_LOOKUPS = ('index', 'gather', 'embedding', 'aten::take', 'grid_sampler')
_WRITE_ONLY = ('fill', 'zero_', 'copy_')


def kind_of(name: str, pointwise: bool) -> str:
    """The kind of an operation.

    Args:
        name: as in ``'aten::relu_'``.
        pointwise: whether PyTorch tags it so.
    """
    for kind, words in _KIND_OF_WORD:
        if any(word in name for word in words):
            return kind
    return ELEMENTWISE if pointwise else OTHER


def work_of(
    func: torch._ops.OpOverload, args: tuple, kwargs: dict, out: object
) -> Work:
    """What a call of an operation does.

    Args:
        func: the operation.
        args, kwargs: what it was called with.
        out: what it returned.
    """
    name = func._schema.name
    inputs, outputs = tensors_of((args, kwargs)), tensors_of(out)
    in_place = func._schema.is_mutable
    # An empty tensor has no storage to be recognised by.
    if func.is_view or (
        not in_place
        and any(_same_storage(a, b) for a in outputs[:1] for b in inputs)
    ):
        return Work(VIEW, 0, 0)
    kind = kind_of(name, torch.Tag.pointwise in func.tags)
    flops, convolution = 0, None
    if any(t.is_nested for t in (*inputs, *outputs)):
        # How many rows they have follows from values, as those of a mask.
        flops = None if name in FLOPS or kind in (CONVOLUTION, MATRIX) else 0
    elif name in FLOPS and outputs and outputs[0].numel():
        flops, convolution = FLOPS[name](args, outputs)
    elif (
        kind in (CONVOLUTION, MATRIX)
        or any(word in name for word in _NAMED)
        # Who knows what an operation does that is not PyTorch's.
        or (kind == OTHER and not name.startswith(('aten::', 'prim')))
    ):
        flops = None
    window = None
    if name == 'aten::convolution' and convolution:
        x = args[0]
        window = Window(*map(tuple, args[3:6]), tuple(x.shape), x.stride())
    moved = _moved(name, inputs, outputs)
    return Work(kind, flops, moved, convolution, window)


def _moved(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    written = _total(outputs)
    if 'aten::empty' in name or 'aten::resize' in name:
        return 0
    if any(word in name for word in _WRITE_ONLY):
        # What is overwritten need not be read.
        return written + _total(inputs[1:])
    if any(word in name for word in _LOOKUPS):
        whole_numbers = [
            t for t in inputs if t.dtype in (torch.int64, torch.int32)
        ]
        taps = max((t.numel() for t in whole_numbers), default=0)
        rows = written
        if 'embedding_bag' in name:
            rows = taps * inputs[0].shape[1] * inputs[0].element_size()
        return written + rows + _total(whole_numbers)
    return _total(inputs) + written
