"""How near each kind of layer comes to the machine's roofline."""

from dataclasses import dataclass

from . import operations
from .analysis import Analysis
from .layers import Layer


@dataclass(frozen=True)
class Distance:
    """The layers of one kind together.

    Attributes:
        name: such as ``'depthwise 3x3'``.
        count: how many there are.
        ms: what they take.
        floor_ms: what the roofline allows.
        starting_ms: what starting so many convolutions takes at least.
        slowest: name of the one that takes most.
    """

    name: str
    count: int
    ms: float
    floor_ms: float
    starting_ms: float
    slowest: str


def _class(layer: Layer) -> str:
    conv = layer.convolution
    if layer.kind != operations.CONVOLUTION or conv is None:
        return layer.kind
    shape = 'x'.join(map(str, conv.kernel_size))
    if conv.is_depthwise:
        return f'depthwise {shape}'
    return f'{shape} in groups' if conv.groups > 1 else f'{shape} convolution'


def distances(analysis: Analysis) -> list[Distance]:
    """Every kind of layer with a roofline, farthest first in milliseconds."""
    groups: dict[str, list[tuple[Layer, float]]] = {}
    for layer, ms in zip(analysis.layers, analysis.layer_ms, strict=True):
        # What suppression takes is no matter of rates.
        if layer.bytes and layer.kind not in (
            operations.POST,
            operations.OTHER,
        ):
            groups.setdefault(_class(layer), []).append((layer, ms))
    found = [
        Distance(
            name=name,
            count=len(chosen),
            ms=sum(ms for _, ms in chosen),
            floor_ms=sum(analysis.floor_ms(layer) for layer, _ in chosen),
            starting_ms=len(chosen) * analysis.peaks.start_ms,
            slowest=max(chosen, key=lambda each: each[1])[0].name,
        )
        for name, chosen in groups.items()
    ]
    return sorted(found, key=lambda each: each.floor_ms - each.ms)
