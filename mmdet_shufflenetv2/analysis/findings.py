"""What is found out about a network, before anything is said of it."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from .layers import Layer
from .operations import BETWEEN, KINDS
from .receptive_field import Field
from .recording import Times
from .roofline import Peaks
from .twins import Breach
from .ways import Alternative


@dataclass
class Findings:
    """Figures of a network, and why some are missing."""

    name: str
    # Shapes of what it was given.
    inputs: list[tuple[int, ...]]
    # What it was measured on, with the load before it.
    environment: dict[str, object]
    # Whether every measurement got little time.
    is_quick: bool
    # Effective receptive fields of random weights say less.
    is_trained: bool
    times: Times
    layers: list[Layer]
    peaks: Peaks
    params: int
    weights_mb: float
    # The most that a pass takes besides the weights.
    peak_mb: float | None = None
    breaches: list[Breach] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    # Of each level: its receptive field, and where its gradient comes from.
    fields: dict[str, Field] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    # How often each operation ran whose work is not multiply-adds.
    not_counted: dict[str, int] = field(default_factory=dict)
    # What else there is to know, as lines of the report and for programs.
    notes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    # What could not be found out, and why.
    problems: list[str] = field(default_factory=list)
    # A pass as `torch.profiler` saw it, in Chrome's format.
    trace: str = '{"traceEvents": []}\n'

    @property
    def flops(self) -> int:
        """Multiply-adds of a pass."""
        return sum(layer.flops for layer in self.layers)

    @property
    def bytes(self) -> int:
        """To be read and written in a pass."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def ms(self) -> float:
        """Median of a pass left alone."""
        return self.times.whole_ms.median

    @property
    def batch(self) -> int:
        """Images, or whatever else the first input holds, of a pass."""
        first = next(iter(self.inputs), ())
        return first[0] if len(first) != 3 and first else 1

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of the images; None if there are none."""
        return next((s[-2:] for s in self.inputs if len(s) in (3, 4)), None)

    def floor_ms(self, layer: Layer) -> float:
        """The least time of a layer by the roofline."""
        return self.peaks.floor_ms(layer.flops, layer.bytes)

    @cached_property
    def kinds_ms(self) -> dict[str, float]:
        """Time of each kind of work, and what is left of the whole's."""
        found = {layer.kind for layer in self.layers}
        result = {
            kind: sum(each.ms for each in self.layers if each.kind == kind)
            for kind in KINDS
            if kind in found
        }
        return result | {BETWEEN: self.ms - sum(result.values())}

    @cached_property
    def parts_ms(self) -> dict[str, dict[str, float]]:
        """Time of each part of the network by kind."""
        result: dict[str, dict[str, float]] = {}
        for layer in self.layers:
            kinds = result.setdefault(layer.part or '(network)', {})
            kinds[layer.kind] = kinds.get(layer.kind, 0) + layer.ms
        return result
