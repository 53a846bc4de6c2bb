"""Everything that is found out about one network, and in which order."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor
from tqdm import tqdm

from ..measure.detector import CANDIDATES
from ..measure.environment import describe
from ..measure.memory import peak_mb, weights_mb
from ..measure.setting import Setting
from ..measure.timing import CLOCKS, Effort
from . import alternatives, operation_times, operations
from .alternatives import (
    DEFAULT_WAYS,
    Alternative,
    comparison,
    measure_alternatives,
)
from .broken_guidelines import Price, find_breaches, price_breaches
from .layers import Layer, layers_of, not_counted
from .networks import Subject, random_image
from .operation_times import (
    PEAK_STEPS,
    Peaks,
    Times,
    measure_peaks,
    time_operations,
)
from .random_weights import let_pass, settle
from .receptive_field import Field, receptive_fields
from .recording import Operation, record

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
        environment: what it was measured on, with the load before it.
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

    @cached_property
    def kinds_ms(self) -> dict[str, float]:
        """Time of each kind of work, and what is left of the whole's."""
        result: dict[str, float] = {}
        for kind in operations.KINDS:
            times = [
                ms
                for layer, ms in zip(self.layers, self.layer_ms, strict=True)
                if layer.kind == kind
            ]
            if times:
                result[kind] = sum(times)
        return result | {BETWEEN: self.ms - sum(self.layer_ms)}

    @cached_property
    def parts_ms(self) -> dict[str, dict[str, float]]:
        """Time of each part of the network by kind."""
        result: dict[str, dict[str, float]] = {}
        for layer, ms in zip(self.layers, self.layer_ms, strict=True):
            kinds = result.setdefault(layer.part or '(network)', {})
            kinds[layer.kind] = kinds.get(layer.kind, 0) + ms
        return result


QUICK = Effort(min_runs=4, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512
# For layers beside their replacements; the slowest layers come first.
PRICING_SECONDS = 120


@contextmanager
def _stage(title: str, total: int | None, quiet: bool) -> Iterator[Callable]:
    """A progress bar that is gone when the stage is over."""
    # How many passes there will be is not known before they are timed.
    form = '{desc}: {n_fmt} passes, {elapsed}'
    if total is not None:
        form = '{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}<{remaining}'
    with tqdm(
        total=total,
        desc=title,
        leave=False,
        disable=quiet or None,
        bar_format=form,
    ) as bar:
        yield lambda: bar.update()


def _detections(results: object) -> list[int] | None:
    if not isinstance(results, list):
        return None
    found = [getattr(each, 'pred_instances', None) for each in results]
    return None if None in found else [len(each) for each in found]


def _peaks(request: Request) -> Peaks:
    effort = QUICK if request.quick else operation_times.EFFORT
    with _stage('machine', PEAK_STEPS, request.quiet) as step:
        return measure_peaks(request.setting, effort, step)


def _times(
    run: Callable[[], object], recorded: list[Operation], request: Request
) -> Times:
    names = [op.name for op in recorded]
    setting = request.setting
    clock = CLOCKS[setting.clock]
    with _stage('network', None, request.quiet) as step:
        return time_operations(
            run, names, request.effort, setting.device, clock, step
        )


def _prices(
    layers: list[Layer], layer_ms: list[float], request: Request
) -> list[Price]:
    breaches = find_breaches(layers)
    effort, seconds = alternatives.EFFORT, PRICING_SECONDS
    if request.quick:
        effort, seconds = QUICK, PRICING_SECONDS / 20
    compare = comparison(request.setting, effort)
    end = time.monotonic() + seconds
    with _stage('guidelines', len(breaches), request.quiet) as step:
        return price_breaches(
            *(breaches, layers, layer_ms, compare, step),
            is_over=lambda: time.monotonic() > end,
        )


def _alternatives(
    subject: Subject, image: Tensor, request: Request
) -> list[Alternative]:
    effort = request.effort._replace(seconds=request.effort.seconds / 2)
    with _stage('alternatives', len(request.ways), request.quiet) as step:
        return measure_alternatives(
            subject, image, request.setting, request.ways, effort, step
        )


def analyse(subject: Subject, request: Request) -> Analysis:
    """Find out everything about a network; the setting must be applied.

    Args:
        subject: the network, on its device.
        request: what to find out.
    """
    setting = request.setting
    # The load of what else runs, before the analysis adds its own.
    environment = describe(setting)
    if not request.settled:
        settle(subject, request.size, setting)
    image = random_image(request.batch, request.size, setting.device)
    image = image.to(setting.dtype)
    run = partial(subject.run, image)
    threshold = None
    if subject.is_detector and not request.settled:
        wanted = CANDIDATES * request.batch
        threshold = let_pass(subject.model, run, wanted)
    recorded = record(subject.model, run)
    layers = layers_of(subject.model, recorded)
    peaks = _peaks(request)
    times = _times(run, recorded, request)
    layer_ms = [times.sum_ms(layer.operations) for layer in layers]
    with torch.no_grad():
        most = peak_mb(run, setting.device)
        results = _detections(run())
    fields, gradients, problem = _receptive_fields(subject, request)
    return Analysis(
        name=subject.name,
        request=request,
        environment=environment,
        recorded=recorded,
        layers=layers,
        layer_ms=layer_ms,
        times=times,
        peaks=peaks,
        prices=_prices(layers, layer_ms, request),
        alternatives=_alternatives(subject, image, request),
        fields=fields,
        gradients=gradients,
        gradient_problem=problem,
        params=sum(p.numel() for p in subject.model.parameters()),
        weights_mb=weights_mb(subject.model),
        peak_mb=most,
        not_counted=not_counted(recorded),
        results=results,
        threshold=threshold,
        no_results=subject.no_results,
    )


def _receptive_fields(
    subject: Subject, request: Request
) -> tuple[dict[str, Field | None], dict[str, Tensor], str | None]:
    """Theoretical fields, gradients, and why there are none."""
    setting = request.setting
    side = tuple(min(each, GRADIENT_SIDE) for each in request.size)
    image = random_image(1, side, setting.device).to(setting.dtype)
    with _stage('receptive field', request.samples, request.quiet) as step:
        return receptive_fields(subject.features, image, request.samples, step)
