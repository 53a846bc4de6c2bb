"""Fragmentation: convolutions that do not wait for each other (G3)."""

from collections.abc import Sequence

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


def _shared_module(a: str, b: str) -> str:
    """The innermost module that holds both."""
    shared = []
    for left, right in zip(a.split('.'), b.split('.'), strict=False):
        if left != right:
            break
        shared.append(left)
    return '.'.join(shared)


def _widest(members: list[int], before: list[int]) -> int:
    """The most members of which none is an ancestor of another.

    By Dilworth's theorem as many as chains are needed to cover them all,
    that is all members less those that can be matched with a successor.
    """
    successor_of: dict[int, int] = {}

    def match(member: int, tried: set[int]) -> bool:
        for other in members:
            if before[other] >> member & 1 and other not in tried:
                tried.add(other)
                taken = successor_of.get(other)
                if taken is None or match(taken, tried):
                    successor_of[other] = member
                    return True
        return False

    return len(members) - sum(match(member, set()) for member in members)


def parallel_branches(recorded: Sequence[Operation]) -> dict[int, int]:
    """How many branches run beside each convolution, itself included.

    Of a network with a backbone only convolutions of the same part count:
    a lateral connection of a neck is parallel to the rest of the backbone,
    too, but it fragments nothing.

    Returns:
        {index of the operation: branches}.
    """
    before = _ancestors(recorded)
    members = [
        i for i, op in enumerate(recorded) if op.kind == operations.CONVOLUTION
    ]
    is_one_part = not any(
        recorded[i].owner.startswith('backbone.') for i in members
    )
    widths: dict[tuple[int, ...], int] = {}
    result = {}
    for index in members:
        beside = tuple(
            other
            for other in members
            if other != index
            and not before[index] >> other & 1
            and not before[other] >> index & 1
            and (
                is_one_part
                or _shared_module(recorded[index].owner, recorded[other].owner)
            )
        )
        if beside not in widths:
            widths[beside] = 1 + _widest(list(beside), before)
        result[index] = widths[beside]
    return result
