"""Everything that is found out about one network on one machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from ..benchmark.setting import Setting
from ..benchmark.timing import Effort
from . import operations
from .alternatives import DEFAULT_WAYS, Alternative
from .layers import Layer
from .passes import Times
from .receptive_field import Field
from .recording import Operation
from .roofline import Peaks
from .trials import Price

BETWEEN = 'between operations'


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        size: (H, W) of the images.
        batch: images of a pass.
        setting: where and how.
        ways: alternatives to measure.
        effort: for timing the network; alternatives get half of it each.
        samples: images for the effective receptive field; 0 for none.
        quick: give every measurement little time.
        settled: the weights are trained, so nothing has to be done to them.
        quiet: show no progress bar.
    """

    size: tuple[int, int]
    batch: int = 1
    setting: Setting = field(default_factory=Setting)
    ways: Sequence[str] = DEFAULT_WAYS
    effort: Effort = field(default_factory=Effort)
    samples: int = 4
    quick: bool = False
    settled: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Analysis:
    """What was found.

    Attributes:
        name: of the network.
        request: what was asked for.
        environment: what it was measured on.
        recorded: operations, in their order.
        layers: the network's.
        layer_ms: the time of each.
        times: of the operations and of the whole.
        peaks: the machine's.
        prices: of broken guidelines.
        alternatives: other ways to run the network.
        fields: receptive field of each level.
        gradients: where each level's gradient comes from.
        gradient_problem: why there are none.
        params: of the whole network.
        weights_mb, peak_mb: memory of the weights, and the most a pass
            takes besides.
        not_counted: operations without multiply-adds: how many.
        results: detections per image, or None for other networks.
        threshold: score threshold that was set for random weights, or None.
        no_results: why there was no post-processing, or None.
    """

    name: str
    request: Request
    environment: dict[str, object]
    recorded: list[Operation]
    layers: list[Layer]
    layer_ms: list[float]
    times: Times
    peaks: Peaks
    prices: list[Price]
    alternatives: list[Alternative]
    fields: dict[str, Field | None]
    gradients: dict[str, Tensor]
    gradient_problem: str | None
    params: int
    weights_mb: float
    peak_mb: float
    not_counted: dict[str, int]
    results: list[int] | None = None
    threshold: float | None = None
    no_results: str | None = None

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

    def floor_ms(self, layer: Layer) -> float:
        """The least time of a layer by the roofline."""
        return self.peaks.floor_ms(layer.flops, layer.bytes)

    def limit(self, layer: Layer) -> str:
        """What the layer's time would be bound by at best."""
        if not layer.bytes:
            return ''
        floor, start = self.floor_ms(layer), self.peaks.start_ms
        if floor < start:
            return 'start'
        compute = self.peaks.compute_ms(layer.flops)
        return 'compute' if compute == floor else 'memory'

    @cached_property
    def kinds_ms(self) -> dict[str, float]:
        """Time of each kind of work, and what is left of the whole's."""
        result = {}
        for kind in operations.KINDS:
            indices = [
                index
                for layer in self.layers
                if layer.kind == kind
                for index in layer.operations
            ]
            if indices:
                result[kind] = self.times.sum_ms(indices)
        return result | {BETWEEN: self.times.unexplained_ms}

    @cached_property
    def parts_ms(self) -> dict[str, dict[str, float]]:
        """Time of each part of the network by kind."""
        result: dict[str, dict[str, float]] = {}
        for layer, ms in zip(self.layers, self.layer_ms, strict=True):
            kinds = result.setdefault(layer.part or '(network)', {})
            kinds[layer.kind] = kinds.get(layer.kind, 0) + ms
        return result
