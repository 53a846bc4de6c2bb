"""A network as a list of layers: operations put together as one reads code.

A layer is one call of a module without children, or what one function of a
module does between the calls of its children: a shuffle, a concatenation, a
sum. Post-processing is one layer per function, whatever it loops over. A
layer knows how many branches could run beside it (fragmentation, G3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from ..measure.convolution import Convolution
from . import operations
from .recording import Operation


def _ancestors(recorded: Sequence[Operation]) -> list[int]:
    """For each operation the set of those before it, as bits of an integer."""
    before: list[int] = []
    for op in recorded:
        bits = 0
        for source in op.sources:
            bits |= before[source] | 1 << source
        before.append(bits)
    return before


def parallel_branches(recorded: Sequence[Operation]) -> dict[int, int]:
    """How many branches run beside each convolution, itself included.

    Of all that neither come before it nor after it those are counted that
    begin a branch, or those that end one, whichever are more. Of a network
    with a backbone only convolutions of the same part count: a lateral
    connection of a neck is parallel to the rest of the backbone, too, but it
    fragments nothing.

    Returns:
        {index of the operation: branches}.
    """
    before = _ancestors(recorded)
    members = [
        i for i, op in enumerate(recorded) if op.kind == operations.CONVOLUTION
    ]
    part = {i: recorded[i].owner.partition('.')[0] for i in members}
    if 'backbone' not in part.values():
        part = dict.fromkeys(members)
    result = {}
    for one in members:
        beside = [
            other
            for other in members
            if other != one
            and part[other] == part[one]
            and not before[one] >> other & 1
            and not before[other] >> one & 1
        ]
        mask = sum(1 << other for other in beside)
        first = sum(not before[other] & mask for other in beside)
        followed = 0
        for other in beside:
            followed |= before[other] & mask
        last = len(beside) - followed.bit_count()
        result[one] = 1 + max(first, last)
    return result


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
        name: path of the module; ``path:function`` between its children;
            `` #2`` marks a second call.
        module: path of the module that owns it.
        type: class of the module, or the operations' names.
        kind: one of ``operations.KINDS``.
        place: ``file.py:line`` where it is called.
        operations: indices into the recorded operations.
        in_shape, out_shape: of the first input of the main operation and
            the first output of the last one.
        ms: median over the passes.
        flops: multiply-adds.
        params: parameters; a shared module's count at its first call.
        bytes: to be read and written.
        convolution: its numbers, if it is one.
        branches: convolutions that could run at the same time, this one
            included.
    """

    name: str
    module: str
    type: str
    kind: str
    place: str
    operations: tuple[int, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    ms: float
    flops: int
    params: int
    bytes: int
    convolution: Convolution | None = None
    branches: int = 1

    def per_ms(self, amount: int) -> float:
        """What a millisecond does of it; 0 where no clock saw any time."""
        return amount / self.ms if self.ms else 0.0

    @property
    def part(self) -> str:
        """The part of the network it is in, such as ``backbone.stage2``."""
        path = self.module.split('.')
        return '.'.join(path[:2] if path[0] == 'backbone' else path[:1])


def _spans(recorded: Sequence[Operation], leaves: set[str]) -> list[list[int]]:
    """Indices of the operations of each layer, in order of first use."""

    def key(index: int) -> tuple:
        op = recorded[index]
        if op.kind == operations.POST:
            return (op.owner, op.function)
        if op.owner in leaves:
            return (op.owner, op.call)
        return (op.owner, op.call, op.function)

    spans, post = [], {}
    for _, run in groupby(range(len(recorded)), key):
        run = list(run)
        first = recorded[run[0]]
        if first.kind == operations.POST:
            post.setdefault(key(run[0]), []).extend(run)
            if len(post[key(run[0])]) == len(run):
                spans.append(post[key(run[0])])
        elif first.owner in leaves:
            spans.append(run)
        else:
            spans += _by_kind(recorded, run)
    return spans


def _by_kind(recorded: Sequence[Operation], run: list[int]) -> list[list[int]]:
    """Split where the kind of work changes; views go with their work."""
    spans: list[list[int]] = []
    kind = None
    for index in run:
        this = recorded[index].kind
        if spans and (this in (kind, operations.VIEW) or kind is None):
            spans[-1].append(index)
        else:
            spans.append([index])
        if this != operations.VIEW:
            kind = this
    return spans


def _main_operation(ops: Sequence[Operation]) -> Operation:
    """The one a layer is there for: most FLOPs, then most bytes."""
    return max(ops, key=lambda op: (op.work.flops or 0, op.work.bytes))


def _name(op: Operation, is_leaf: bool) -> str:
    name = op.owner or '(root)'
    if not is_leaf:
        name += f':{op.function}'
    return name if op.call == 1 else f'{name} #{op.call}'


def _type(ops: Sequence[Operation], module: nn.Module, is_leaf: bool) -> str:
    if is_leaf:
        return type(module).__name__
    working = [op for op in ops if op.kind != operations.VIEW] or ops
    names = dict.fromkeys(op.name.partition('::')[2] for op in working)
    return ' '.join(list(names)[:3]) + (' ...' if len(names) > 3 else '')


def _in_shape(op: Operation) -> tuple[int, ...]:
    # A linear layer's first argument is its bias.
    shapes = op.inputs[-2:] if op.kind == operations.MATRIX else op.inputs
    return shapes[0] if shapes else ()


def layers_of(
    model: nn.Module,
    recorded: Sequence[Operation],
    ms_of: Callable[[Sequence[int]], float] = lambda indices: 0.0,
) -> list[Layer]:
    """Put recorded operations together.

    Args:
        model: the network.
        recorded: its operations, in order.
        ms_of: the time of some of them together, by their indices.
    """
    modules = dict(model.named_modules())
    leaves = {n for n, m in modules.items() if not any(m.children())}
    branches = parallel_branches(recorded)
    counted: set[str] = set()
    layers = []
    for span in _spans(recorded, leaves):
        ops = [recorded[index] for index in span]
        main = _main_operation(ops)
        module, is_leaf = modules[main.owner], main.owner in leaves
        params = 0
        if main.owner not in counted:
            counted.add(main.owner)
            params = sum(p.numel() for p in module.parameters(recurse=False))
        kind = main.kind if main.kind != operations.VIEW else operations.DATA
        layers.append(
            Layer(
                name=_name(main, is_leaf),
                module=main.owner,
                type=_type(ops, module, is_leaf),
                kind=kind,
                place=main.place,
                operations=tuple(span),
                in_shape=_in_shape(main),
                out_shape=next(iter(ops[-1].outputs), ()),
                ms=ms_of(span),
                flops=sum(op.work.flops or 0 for op in ops),
                params=params,
                bytes=sum(op.work.bytes for op in ops),
                convolution=main.work.convolution,
                branches=max(branches.get(index, 1) for index in span),
            )
        )
    return layers


def not_counted(recorded: Sequence[Operation]) -> dict[str, int]:
    """How often each operation ran whose work is not multiply-adds."""
    names = [op.name for op in recorded if op.work.flops is None]
    return {name: names.count(name) for name in dict.fromkeys(names)}
