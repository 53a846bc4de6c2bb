"""How an analysis is made: what is run and measured, in which order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from ..benchmark.environment import describe
from ..benchmark.memory import is_out_of_memory, peak_mb, weights_mb
from ..benchmark.setting import settle_norms
from ..benchmark.timing import Effort
from . import roofline, trials
from .alternatives import Alternative, measure_alternatives
from .analysis import Analysis, Request
from .breaches import find_breaches
from .candidates import CANDIDATES, let_pass
from .layers import Layer, layers_of, not_counted
from .passes import Times, time_operations
from .receptive_field import Field, gradient_maps, theoretical_fields
from .recording import Operation, record
from .roofline import PEAK_STEPS, Peaks, measure_peaks
from .subject import Subject, random_image
from .trials import Price, comparison, price_breaches

QUICK = Effort(min_runs=4, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512


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


def _threshold(
    subject: Subject, request: Request, run: Callable[[], object]
) -> float | None:
    """Let a detector of random weights have something to suppress."""
    if request.settled or not subject.is_detector:
        return None
    return let_pass(subject.model, run, CANDIDATES * request.batch)


def _peaks(request: Request) -> Peaks:
    effort = QUICK if request.quick else roofline.EFFORT
    with _stage('machine', PEAK_STEPS, request.quiet) as step:
        return measure_peaks(request.setting, effort, step)


def _times(
    run: Callable[[], object], recorded: list[Operation], request: Request
) -> Times:
    names = [op.name for op in recorded]
    device = request.setting.device
    with _stage('network', None, request.quiet) as step:
        return time_operations(
            run, names, request.effort, device, progress=step
        )


def _prices(
    layers: list[Layer], layer_ms: list[float], request: Request
) -> list[Price]:
    breaches = find_breaches(layers)
    effort = QUICK if request.quick else trials.EFFORT
    compare = comparison(request.setting, effort)
    with _stage('guidelines', len(breaches), request.quiet) as step:
        return price_breaches(breaches, layers, layer_ms, compare, step)


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
    if not request.settled:
        _settle(subject, request)
    image = random_image(request.batch, request.size, setting.device)
    image = image.to(setting.dtype)
    run = partial(subject.run, image)
    threshold = _threshold(subject, request, run)
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
        environment=describe(setting),
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
