"""A network as a list of layers: operations put together as one reads code.

A layer is one call of a module without children, or what one function of a
module does between the calls of its children: a shuffle, a concatenation, a
sum. Post-processing is one layer per function, whatever it loops over.
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
        name: path of the module; ``path:function`` between its children;
            `` #2`` marks a second call.
        place: ``file.py:line`` of the call.
        operations: indices into the recorded operations.
        in_shape, out_shape: of the first input of the main operation and
            the first output of the last one.
        flops: multiply-adds.
        params: parameters; a shared module's count at its first call.
        bytes: to be read and written.
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


def layers_of(
    model: nn.Module,
    recorded: Sequence[Operation],
    ms_of: Callable[[Sequence[int]], float] = lambda indices: 0.0,
) -> list[Layer]:
    """Put recorded operations together; ``ms_of`` some is their time."""
    modules = dict(model.named_modules())
    leaves = {n for n, m in modules.items() if not any(m.children())}
    branches = parallel_branches(recorded)
    counted: set[str] = set()
    layers = []
    for span in _spans(recorded, leaves):
        ops = [recorded[index] for index in span]
        # What it is there for: most multiply-adds, then most bytes.
        main = max(ops, key=lambda op: (op.flops or 0, op.bytes))
        module = modules[main.owner]
        name, type_name = main.owner or '(root)', type(module).__name__
        if main.owner not in leaves:
            name += f':{main.function}'
            working = [op for op in ops if op.kind != operations.VIEW] or ops
            names = [*dict.fromkeys(o.name.split('::')[1] for o in working)]
            type_name = ' '.join(names[:3] + ['...'] * (len(names) > 3))
        own = [] if main.owner in counted else module.parameters(recurse=False)
        counted.add(main.owner)
        # A linear layer's first argument is its bias.
        is_matrix = main.kind == operations.MATRIX
        shapes = main.inputs[-2:] if is_matrix else main.inputs
        is_view = main.kind == operations.VIEW
        layers.append(
            Layer(
                name=name if main.call == 1 else f'{name} #{main.call}',
                module=main.owner,
                type=type_name,
                kind=operations.DATA if is_view else main.kind,
                place=main.place,
                operations=tuple(span),
                in_shape=next(iter(shapes), ()),
                out_shape=next(iter(ops[-1].outputs), ()),
                ms=ms_of(span),
                flops=sum(op.flops or 0 for op in ops),
                params=sum(p.numel() for p in own),
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
        asked = op.owner, op.call, '' if is_leaf else op.function
        if op.kind == operations.POST:
            # Whatever it calls and loops over.
            key, kind = (op.owner, op.function), None
        # A function is split where the kind of its work changes; views go
        # with the work around them.
        elif (
            key is None
            or key[:3] != asked
            or not (is_leaf or is_view or kind in (None, op.kind))
        ):
            key, kind = (*asked, index), None
        spans.setdefault(key, []).append(index)
        kind = kind if is_view else op.kind
    return [*spans.values()]


def parallel_branches(recorded: Sequence[Operation]) -> dict[int, int]:
    """How many branches run beside each convolution, itself included.

    Of all that neither come before it nor after it those are counted that
    begin a branch. Of a network with a backbone only convolutions of the
    same part count: a lateral connection of a neck is parallel to the rest
    of the backbone, too, but it fragments nothing.
    """
    # For each operation the set of those before it, as bits of an integer.
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
