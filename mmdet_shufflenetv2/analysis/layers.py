"""Group recorded operations into layers.

A layer is one call of a module without children, or the work of a module's
own function between the calls of its children, such as a shuffle or a sum.
Post-processing is one layer per function, including all its loops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from . import operations
from .convolution import Convolution
from .operations import Operation


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
        name: path of the module, or ``path:function`` for work between its
            children; `` #2`` marks a second call.
        operations: indices into the recorded operations.
        in_shape: shape of the main operation's first input.
        out_shape: shape of the last operation's first output.
        flops: multiply-adds.
        params: parameters, shared ones counted where they are first read.
        bytes: bytes read and written.
        branches: number of parallel branches, including this one.
    """

    name: str
    module: str
    type: str
    kind: str
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
        """An amount per millisecond; 0 if the measured time is 0."""
        return amount / self.ms if self.ms else 0.0

    @property
    def part(self) -> str:
        """The layer's part of the network, such as ``backbone.stage2``."""
        path = self.module.split('.')
        return '.'.join(path[:2] if path[0] == 'backbone' else path[:1])


def layers_of(
    model: nn.Module,
    recorded: Sequence[Operation],
    ms_of: Callable[[Sequence[int]], float] = lambda indices: 0.0,
) -> list[Layer]:
    """Group recorded operations; ``ms_of`` returns the time of indices."""
    modules = dict(model.named_modules())
    leaves = {n for n, m in modules.items() if not any(m.children())}
    branches = parallel_branches(recorded)
    layers = []
    for span in _spans(recorded, leaves):
        ops = [recorded[index] for index in span]
        # The main operation has most multiply-adds, then most bytes.
        main = max(ops, key=lambda op: (op.flops or 0, op.bytes))
        module = modules[main.owner]
        name, type_name = main.owner or '(root)', type(module).__name__
        if main.owner not in leaves:
            name += f':{main.function}'
            working = [op for op in ops if op.kind != operations.VIEW] or ops
            names = [*dict.fromkeys(o.name.split('::')[1] for o in working)]
            type_name = ' '.join(names[:3] + ['...'] * (len(names) > 3))
        # Skip the bias, the first argument of a linear layer.
        is_matrix = main.kind == operations.MATRIX
        shapes = main.inputs[-2:] if is_matrix else main.inputs
        is_view = main.kind == operations.VIEW
        layers.append(
            Layer(
                name=name if main.call == 1 else f'{name} #{main.call}',
                module=main.owner,
                type=type_name,
                kind=operations.DATA if is_view else main.kind,
                operations=tuple(span),
                in_shape=next(iter(shapes), ()),
                out_shape=next(iter(ops[-1].outputs), ()),
                ms=ms_of(span),
                flops=sum(op.flops or 0 for op in ops),
                params=sum(op.params for op in ops),
                bytes=sum(op.bytes for op in ops),
                convolution=main.convolution,
                branches=max(branches.get(index, 1) for index in span),
            )
        )
    return layers


def _spans(recorded: Sequence[Operation], leaves: set[str]) -> list[list[int]]:
    """Indices of the operations of each layer, in order of first use."""
    spans: dict[tuple, list[int]] = {}
    key = kind = None
    for index, op in enumerate(recorded):
        is_leaf, is_view = op.owner in leaves, op.kind == operations.VIEW
        caller = op.owner, op.call, '' if is_leaf else op.function
        if op.kind == operations.POST:
            # One layer per function, however often it runs.
            key, kind = (op.owner, op.function), None
        # A function is split where its kind of work changes; views belong to
        # the work around them.
        elif (
            key is None
            or key[:3] != caller
            or not (is_leaf or is_view or kind in (None, op.kind))
        ):
            key, kind = (*caller, index), None
        spans.setdefault(key, []).append(index)
        kind = kind if is_view else op.kind
    return [*spans.values()]


def parallel_branches(recorded: Sequence[Operation]) -> dict[int, int]:
    """Count the branches parallel to each convolution, including its own.

    A parallel convolution, which neither precedes nor follows this one, counts
    if it begins a branch. If the network has a backbone, only convolutions of
    the same part count: a lateral connection of the neck is also parallel to
    the rest of the backbone, but it does not fragment it.
    """
    # The operations that precede each operation, as bits of an integer.
    before: list[int] = []
    parts: dict[int, str] = {}
    for index, op in enumerate(recorded):
        bits = 0
        for source in op.sources:
            bits |= before[source] | 1 << source
        before.append(bits)
        if op.kind == operations.CONVOLUTION:
            parts[index] = op.owner.partition('.')[0]
    if 'backbone' not in parts.values():
        parts = dict.fromkeys(parts, '')
    result = {}
    for one, part in parts.items():
        beside = [
            other
            for other in parts
            if other != one
            and parts[other] == part
            and not (before[one] >> other | before[other] >> one) & 1
        ]
        mask = sum(1 << other for other in beside)
        result[one] = 1 + sum(not before[other] & mask for other in beside)
    return result
