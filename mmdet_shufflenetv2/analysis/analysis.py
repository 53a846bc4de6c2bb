"""What is found out about a network, how, and in which order.

Recording and timing come first. Each later step costs only its own figures
where it fails, and the result says why.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.profiler import profile, record_function

from ..measure.memory import peak_mb, weights_mb
from ..measure.setting import PRECISIONS, Setting, describe
from ..measure.timing import CLOCKS, WIDE, Effort
from . import roofline, twins
from .advice import DEFAULT_WAYS, Alternative, advise, measure_ways
from .layers import Layer, layers_of
from .operations import BETWEEN, KINDS, tensors_of
from .receptive_field import (
    Features,
    Field,
    gradient_maps,
    maps_of,
    theoretical_fields,
)
from .recording import Times, record, time_operations
from .report import report, write_csv, write_json
from .roofline import Peaks
from .twins import Breach

QUICK = Effort(min_runs=4, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512
# For layers beside their twins; the slowest layers come first.
TWIN_SECONDS = 120


@dataclass
class Analysis:
    """Figures of a network, why some are missing, and how they are shown.

    Attributes:
        inputs: shapes of what it was given.
        environment: what it was measured on, with the load before it.
        is_quick: whether every measurement got little time.
        is_trained: effective receptive fields of random weights say less.
        not_counted: how often each operation ran whose work is not
            multiply-adds.
        notes: what else there is to know.
        problems: what could not be found out, and why.
        peak_mb: the most that a pass takes besides the weights.
        fields, gradients: of each level its receptive field, and where its
            gradient comes from.
        trace: a pass as `torch.profiler` saw it, in Chrome's format.
    """

    name: str
    inputs: list[tuple[int, ...]]
    environment: dict[str, object]
    is_quick: bool
    is_trained: bool
    times: Times
    layers: list[Layer]
    peaks: Peaks
    params: int
    weights_mb: float
    not_counted: dict[str, int]
    notes: list[str]
    problems: list[str] = field(default_factory=list)
    peak_mb: float | None = None
    breaches: list[Breach] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    fields: dict[str, Field] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    trace: str = '{"traceEvents": []}\n'

    advice = property(advise)
    table = report
    to_csv = write_csv
    to_json = write_json

    def plot(self, path: str | os.PathLike) -> None:
        """Draw time, roofline, advice and receptive fields.

        Raises:
            UserError: matplotlib is not installed.
        """
        from .picture import draw

        draw(self, path)

    def to_trace(self, path: str | os.PathLike) -> None:
        """Write a pass as a time line for ui.perfetto.dev."""
        Path(path).write_text(self.trace)

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

    def floor_ms(self, *layers: Layer) -> float:
        """The least time of layers by the roofline."""
        return sum(self.peaks.floor_ms(e.flops, e.bytes) for e in layers)

    @property
    def kinds_ms(self) -> dict[str, float]:
        """Time of each kind of work; last, what is left of a pass."""
        times = sum(self.parts_ms.values(), Counter())
        result = {kind: times[kind] for kind in KINDS if kind in times}
        return result | {BETWEEN: self.ms - times.total()}

    @property
    def parts_ms(self) -> dict[str, Counter[str]]:
        """Time of each part of the network by kind."""
        result: dict[str, Counter] = {}
        for layer in self.layers:
            part = result.setdefault(layer.part or '(network)', Counter())
            part[layer.kind] += layer.ms
        return result

    @property
    def warnings(self) -> list[str]:
        """Why the times should not be trusted."""
        where, found = self.environment, []
        # A quick look has too little time to settle, and says so.
        if not (self.is_quick or self.times.whole.settled):
            found.append('warm-up did not settle')
        if self.times.whole_ms.width > WIDE:
            found.append(f'spread {self.times.whole_ms.width:.0%}')
        # Evenly slowed passes have no spread. Processor time leaves others
        # out.
        load = where['load'] or 0
        if where['clock'] == 'wall' and load > where['cores']:
            found.append('other work for all cores before it began')
        if not self.times.repeats:
            found.append(
                'every pass executes other operations, so that the times of '
                'layers are those of one pass'
            )
        return found


def analyze(
    model: nn.Module,
    inputs: Tensor | tuple,
    *,
    name: str | None = None,
    run: Callable[[nn.Module, tuple], object] | None = None,
    features: Features | None = None,
    quick: bool = False,
    seconds: float = 10.0,
    samples: int = 4,
    ways: Sequence[str] = DEFAULT_WAYS,
    setting: Setting | None = None,
    is_trained: bool = True,
    notes: Sequence[str] = (),
    progress: Callable[[str], object] = lambda stage: None,
) -> Analysis:
    """Find out what a network costs, where its time goes and what would help.

    It needs nothing but PyTorch. The network runs in evaluation mode, on the
    device and in the precision that its weights have, and stays as it is.

    Args:
        model: any network.
        inputs: what to call it with: a tensor, or a tuple of arguments.
            Receptive fields are those in the first one, if it is a batch of
            images.
        name: for the report; the class of the model by default.
        run: one pass of a model, if that is more than calling it.
        features: gives the maps of a model whose receptive fields are
            wanted, by name, from an image; by default one map of each size.
        quick: a first look: a few runs of everything, which say less.
        seconds: for timing the network.
        samples: images for the effective receptive field, 0 for none.
        ways: other ways to run the network, of `advice.WAYS`.
        setting: what the process was set to; by default what the model is
            in, and elapsed time.
        is_trained: whether the weights are.
        notes: what else to say in the report.
        progress: is told what comes next.
    """
    # PyTorch's profiler reports on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    run = run or (lambda model, inputs: model(*inputs))
    tensors = [*model.parameters(), *tensors_of(inputs), torch.empty(0)]
    dtype = next(t.dtype for t in tensors if t.is_floating_point())
    if setting is None:
        names = {PRECISIONS[name]: name for name in ('fp32', 'fp16', 'bf16')}
        setting = Setting(
            str(tensors[0].device),
            torch.get_num_threads(),
            names.get(dtype, 'fp32'),
        )
    effort = QUICK if quick else Effort(5, 100, seconds, seconds / 3)
    watch = setting.stopwatch()
    place = torch.device(setting.device), dtype
    clock = CLOCKS[setting.clock], setting.on_gpu
    once = torch.no_grad()(partial(run, model, inputs))
    # The load of what else runs, before the analysis adds its own.
    environment = describe(setting)
    if dtype == torch.float64:
        environment['precision'] = 'fp64'
    with _evaluating(model):
        progress('recording')
        # What a network makes in its first pass and keeps is of no interest.
        once()
        recorder = record(model, once, *clock)
        progress('measuring the machine')
        peaks = roofline.measure_peaks(
            *place, watch, QUICK if quick else roofline.EFFORT
        )
        progress('timing')
        times = time_operations(once, recorder, effort, watch, *clock)
        recorded = recorder.operations
        result = Analysis(
            name=name or type(model).__name__,
            inputs=[tuple(each.shape) for each in tensors_of(inputs)],
            environment=environment,
            is_quick=quick,
            is_trained=is_trained,
            times=times,
            layers=layers_of(model, recorded, times.sum_ms),
            peaks=peaks,
            params=sum(p.numel() for p in model.parameters()),
            weights_mb=weights_mb(model),
            not_counted=dict(
                Counter(op.name for op in recorded if op.flops is None)
            ),
            notes=list(notes),
        )

        @contextmanager
        def attempt(stage: str) -> Iterator[None]:
            progress(stage)
            try:
                yield
            except Exception as error:
                result.problems.append(f'{stage}: {twins.reason_of(error)}')

        with attempt('memory'):
            result.peak_mb = peak_mb(once, setting.device)
        with attempt('trace'):
            result.trace = trace_of(model, once)
        with attempt('guidelines'):
            how_long = QUICK if quick else twins.EFFORT
            compare = twins.comparison(*place, watch, how_long)
            result.breaches = twins.breaches_of(
                result.layers, compare, TWIN_SECONDS / (20 if quick else 1)
            )
        with attempt('other ways to run it'):
            half = effort._replace(seconds=effort.seconds / 2)
            result.alternatives = measure_ways(
                model, inputs, run, features, watch, ways, half
            )
        first = inputs[0] if inputs else None
        is_map = isinstance(first, Tensor) and first.dim() == 4
        if not (is_map and first.is_floating_point() and min(result.size) > 1):
            return result

        def own_maps(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
            once = partial(run, model, (image, *inputs[1:]))
            return maps_of(model, once, image)

        image, maps = first[:1], features or own_maps
        with attempt('theoretical receptive fields'):
            result.fields = theoretical_fields(model, image, maps)
        with attempt('effective receptive fields'):
            image = image[..., :GRADIENT_SIDE, :GRADIENT_SIDE]
            samples = min(samples, 1) if quick else samples
            result.gradients = gradient_maps(model, image, maps, samples)
    return result


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; modes and random numbers are as before afterwards."""
    training = [each for each in model.modules() if each.training]
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for each in training:
            each.training = True


def trace_of(model: nn.Module, run: Callable[[], object]) -> str:
    """A pass by `torch.profiler`, with the paths of modules in it."""
    names = {id(m): name or '(root)' for name, m in model.named_modules()}
    opened = []

    def begin(module: nn.Module, _) -> None:
        name = names.get(id(module), type(module).__name__)
        opened.append(record_function(name).__enter__())

    def end(*_) -> None:
        opened.pop().__exit__(None, None, None)

    before = hooks.register_module_forward_pre_hook(begin)
    after = hooks.register_module_forward_hook(end, always_call=True)
    try:
        with profile(record_shapes=True) as profiler:
            run()
    finally:
        before.remove()
        after.remove()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        return path.read_text()
