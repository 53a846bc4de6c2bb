"""Everything that is found out about one network on one machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from ..benchmark.environment import describe
from ..benchmark.memory import is_out_of_memory, peak_mb, weights_mb
from ..benchmark.setting import Setting, settle_norms
from ..benchmark.timing import Effort
from . import operations, roofline, trials
from .alternatives import DEFAULT_WAYS, Alternative, measure_alternatives
from .breaches import find_breaches
from .candidates import CANDIDATES, let_pass
from .layers import Layer, layers_of, not_counted
from .passes import Times, time_operations
from .receptive_field import Field, gradient_maps, theoretical_fields
from .recording import Operation, record
from .roofline import PEAK_STEPS, Peaks, measure_peaks
from .subject import Subject, random_image
from .trials import Price, comparison, price_breaches

QUICK = Effort(min_runs=2, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
BETWEEN = 'between operations'
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512


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


class _Maps(nn.Module):
    """A network's maps as those of one module."""

    def __init__(self, subject: Subject):
        super().__init__()
        self.model = subject.model
        self._features = subject.features

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self._features(image)

    def train(self, mode: bool = True) -> '_Maps':
        super().train(mode)
        # A backbone with `norm_eval` would keep its own in evaluation mode.
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode)
        return self


def _settle(subject: Subject, request: Request) -> None:
    """Let maps of random weights have the size of trained ones."""
    side = [min(each, 256) for each in request.size]
    # Two images: one gives a map of one pixel no variance.
    image = random_image(2, tuple(side), request.setting.device)
    settle_norms(_Maps(subject), image.to(request.setting.dtype))
    subject.model.eval()


def _detections(results: object) -> list[int] | None:
    if not isinstance(results, list):
        return None
    found = [getattr(each, 'pred_instances', None) for each in results]
    return None if None in found else [len(each) for each in found]


def analyse(subject: Subject, request: Request) -> Analysis:
    """Find out everything about a network; the setting must be applied.

    Args:
        subject: the network, on its device.
        request: what to find out.
    """
    setting, quiet = request.setting, request.quiet
    if not request.settled:
        _settle(subject, request)
    image = random_image(request.batch, request.size, setting.device)
    image = image.to(setting.dtype)
    results = None

    def run() -> None:
        nonlocal results
        results = subject.run(image)

    threshold = None
    if subject.is_detector and not request.settled:
        some = CANDIDATES * request.batch
        threshold = let_pass(subject.model, run, some)
    recorded = record(subject.model, run)
    layers = layers_of(subject.model, recorded)
    with _stage('machine', PEAK_STEPS, quiet) as step:
        peaks = measure_peaks(
            setting, QUICK if request.quick else roofline.EFFORT, step
        )
    with _stage('network', None, quiet) as step:
        times = time_operations(
            run,
            [op.name for op in recorded],
            request.effort,
            setting.device,
            progress=step,
        )
    layer_ms = [times.sum_ms(layer.operations) for layer in layers]
    breaches = find_breaches(layers)
    with _stage('guidelines', len(breaches), quiet) as step:
        compare = comparison(
            setting, QUICK if request.quick else trials.EFFORT
        )
        prices = price_breaches(breaches, layers, layer_ms, compare, step)
    half = request.effort._replace(seconds=request.effort.seconds / 2)
    with _stage('alternatives', len(request.ways), quiet) as step:
        alternatives = measure_alternatives(
            subject, image, setting, request.ways, half, step
        )
    with torch.no_grad():
        most = peak_mb(partial(subject.run, image), setting.device)
    fields, gradients, problem = _receptive_fields(subject, request)
    return Analysis(
        name=subject.name,
        request=request,
        environment=describe(setting),
        recorded=recorded,
        layers=layers,
        layer_ms=layer_ms,
        times=times,
        peaks=peaks,
        prices=prices,
        alternatives=alternatives,
        fields=fields,
        gradients=gradients,
        gradient_problem=problem,
        params=sum(p.numel() for p in subject.model.parameters()),
        weights_mb=weights_mb(subject.model),
        peak_mb=most,
        not_counted=not_counted(recorded),
        results=_detections(results),
        threshold=threshold,
    )


def _receptive_fields(subject: Subject, request: Request):
    """Theoretical fields, gradients, and why there are none."""
    setting = request.setting
    side = tuple(min(each, GRADIENT_SIDE) for each in request.size)
    image = random_image(1, side, setting.device).to(setting.dtype)
    fields = theoretical_fields(subject.features, image)
    if not request.samples:
        return fields, {}, None
    with _stage('receptive field', request.samples, request.quiet) as step:
        try:
            gradients = gradient_maps(
                subject.features, image, request.samples, step
            )
        except (RuntimeError, MemoryError) as error:
            # Everything else has been measured by now.
            reason = 'its gradient cannot be computed: '
            if is_out_of_memory(error):
                reason = 'its gradient does not fit in memory: '
            return fields, {}, reason + str(error).partition('\n')[0]
    return fields, gradients, None
