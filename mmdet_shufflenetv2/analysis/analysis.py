"""What is found out about a network, and in which order.

Recording and timing come first. Each later step costs only its own figures
where it fails, and the result says why.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.profiler import profile, record_function
from torch.utils._pytree import tree_map_only

from ..measure.environment import describe
from ..measure.memory import is_out_of_memory, peak_mb, weights_mb
from ..measure.setting import PRECISIONS, Setting
from ..measure.timing import CLOCKS, Effort
from . import operations, receptive_field, twins
from .advice import Advice, advise
from .layers import Layer, layers_of, not_counted
from .operations import BETWEEN, tensors_of
from .receptive_field import Features, Field
from .recording import Operation, record
from .report import report
from .roofline import EFFORT as PEAKS_EFFORT
from .roofline import Peaks, measure_peaks
from .tables import layer_rows, write_csv, write_json
from .times import CudaLaps, HostLaps, Times, time_operations
from .twins import Breach
from .ways import DEFAULT_WAYS, Alternative, measure_ways

QUICK = Effort(min_runs=4, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512
# For layers beside their twins; the slowest layers come first.
TWIN_SECONDS = 120


@dataclass
class Analysis:
    """What was found.

    Attributes:
        name: of the network.
        inputs: shapes of what it was given.
        setting: device, threads, precision, clock.
        environment: what it was measured on, with the load before it.
        is_quick: whether every measurement got little time.
        is_trained: whether the weights are trained; effective receptive
            fields of random ones say less.
        recorded: operations, in their order.
        times: of the operations and of the whole.
        layers: the network's, with their times.
        peaks: the machine's.
        params: of the whole network.
        weights_mb, peak_mb: memory of the weights, and the most a pass takes
            besides; None if it was not measured.
        breaches: of guidelines, and their costs.
        alternatives: other ways to run the network.
        fields: receptive field of each level.
        gradients: where each level's gradient comes from.
        not_counted: operations without multiply-adds: how many.
        notes: what else there is to know, as lines of the report.
        facts: the same for programs.
        problems: what could not be found out, and why.
        trace: a pass as `torch.profiler` saw it, in Chrome's format.
    """

    name: str
    inputs: list[tuple[int, ...]]
    setting: Setting
    environment: dict[str, object]
    is_quick: bool
    is_trained: bool
    recorded: list[Operation]
    times: Times
    layers: list[Layer]
    peaks: Peaks
    params: int
    weights_mb: float
    peak_mb: float | None = None
    breaches: list[Breach] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    fields: dict[str, Field] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    not_counted: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    trace: str | None = None

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
        result = {
            kind: sum(each.ms for each in self.layers if each.kind == kind)
            for kind in operations.KINDS
            if any(each.kind == kind for each in self.layers)
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

    @property
    def advice(self) -> list[Advice]:
        """What would help, the largest gain first."""
        return advise(self)

    def rows(self) -> list[dict[str, object]]:
        """One row for each layer."""
        return layer_rows(self)

    def table(self, most: int | None = None) -> str:
        """The report as text.

        Args:
            most: lines of advice and of layers; None for all.
        """
        return report(self, most)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one row for each layer."""
        write_csv(self, Path(path))

    def to_json(self, path: str | os.PathLike) -> None:
        """Write everything for a program to read."""
        write_json(self, Path(path))

    def plot(self, path: str | os.PathLike) -> None:
        """Draw time, roofline, advice and receptive fields.

        Raises:
            UserError: matplotlib is not installed.
        """
        from .picture import draw

        draw(self, Path(path))

    def to_trace(self, path: str | os.PathLike) -> None:
        """Write a pass as a time line for ui.perfetto.dev."""
        Path(path).write_text(self.trace or '{"traceEvents": []}\n')


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
    facts: Mapping[str, object] | None = None,
    progress: Callable[[str], object] = lambda stage: None,
) -> Analysis:
    """Find out what a network costs, where its time goes and what would help.

    ::

        result = analyze(resnet18(), torch.rand(1, 3, 224, 224))
        print(result.table())

    It needs nothing but PyTorch. The network runs in evaluation mode, on the
    device and in the precision that its weights have, and stays as it is.

    Args:
        model: any network.
        inputs: what to call it with: a tensor, or a tuple of arguments.
        name: for the report; the class of the model by default.
        run: one pass of a model, if that is more than calling it.
        features: gives the maps of a model whose receptive fields are
            wanted, by name, from an image; by default one map of each size.
        quick: a first look: a few runs of everything, which say less.
        seconds: for timing the network.
        samples: images for the effective receptive field, 0 for none.
        ways: other ways to run the network, of `ways.WAYS`.
        setting: what the process was set to; by default what the model is
            in, and elapsed time.
        is_trained: whether the weights are.
        notes, facts: what else to say in the report, and in JSON.
        progress: is told what comes next.
    """
    # PyTorch's profiler reports on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    run = run or _call
    setting = setting or setting_of(model, inputs)
    effort = Effort(5, 100, seconds, seconds / 3)
    if quick:
        effort, samples = QUICK, min(samples, 1)
    watch = setting.stopwatch()
    place = torch.device(setting.device), dtype_of(model, inputs)
    once = partial(run, model, inputs)
    # The load of what else runs, before the analysis adds its own.
    environment = describe(setting)
    if place[1] == torch.float64:
        environment['precision'] = 'fp64'
    with _evaluating(model):
        progress('recording')
        make_laps = (
            CudaLaps
            if setting.on_gpu
            else partial(HostLaps, CLOCKS[setting.clock])
        )
        laps = make_laps()
        recorded = record(model, once, laps)
        progress('measuring the machine')
        peaks = measure_peaks(*place, watch, QUICK if quick else PEAKS_EFFORT)
        progress('timing')
        names = [op.name for op in recorded]
        times = time_operations(
            once, names, laps.read_ms(), effort, watch, make_laps
        )
        shapes = [tuple(each.shape) for each in tensors_of(inputs)]
        result = Analysis(
            name=name or type(model).__name__,
            inputs=shapes,
            setting=setting,
            environment=environment,
            is_quick=quick,
            is_trained=is_trained,
            recorded=recorded,
            times=times,
            layers=layers_of(model, recorded, times.sum_ms),
            peaks=peaks,
            params=sum(p.numel() for p in model.parameters()),
            weights_mb=weights_mb(model),
            not_counted=not_counted(recorded),
            notes=list(notes),
            facts=dict(facts or {}),
        )

        def attempt(name: str, stage: str, step: Callable, *args) -> None:
            """Put what a step finds out into the result, or why it cannot."""
            progress(stage)
            try:
                setattr(result, name, step(*args))
            except Exception as error:
                result.problems.append(f'{stage}: {reason_of(error)}')

        attempt('peak_mb', 'memory', _peak_mb, once, setting.device)
        attempt('trace', 'trace', trace_of, model, once)
        compare = twins.comparison(
            *place, watch, QUICK if quick else twins.EFFORT
        )
        end = time.monotonic() + TWIN_SECONDS / (20 if quick else 1)
        attempt(
            *('breaches', 'guidelines', twins.breaches_of),
            *(result.layers, compare, lambda: time.monotonic() > end),
        )
        attempt(
            *('alternatives', 'other ways to run it', measure_ways),
            *(model, inputs, run, features, watch, ways),
            effort._replace(seconds=effort.seconds / 2),
        )
        image = image_of(inputs)
        if image is not None:
            maps = features or partial(_maps, run, inputs)
            small = image[..., :GRADIENT_SIDE, :GRADIENT_SIDE]
            attempt(
                *('fields', 'theoretical receptive fields'),
                *(receptive_field.theoretical_fields, model, image, maps),
            )
            attempt(
                *('gradients', 'effective receptive fields'),
                *(receptive_field.gradient_maps, model, small, maps, samples),
            )
    return result


def _call(model: nn.Module, inputs: tuple) -> object:
    return model(*inputs)


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


def setting_of(model: nn.Module, inputs: tuple) -> Setting:
    """The device and precision that a model is in, as it is now."""
    tensors = [*model.parameters(), *tensors_of(inputs), torch.empty(0)]
    dtype = dtype_of(model, inputs)
    known = {p.dtype: name for name, p in PRECISIONS.items() if not p.tf32}
    return Setting(
        str(tensors[0].device),
        torch.get_num_threads(),
        known.get(dtype, 'fp32'),
    )


def dtype_of(model: nn.Module, inputs: tuple) -> torch.dtype:
    """The type of a model's numbers: of its first weight that has any."""
    tensors = [*model.parameters(), *tensors_of(inputs)]
    return next(
        (t.dtype for t in tensors if t.is_floating_point()), torch.float32
    )


def image_of(inputs: tuple) -> Tensor | None:
    """One image among the inputs, (1, C, H, W) or (C, H, W)."""
    for each in tensors_of(inputs):
        is_image = each.dim() == 4 or (each.dim() == 3 and len(each) in (1, 3))
        if is_image and each.is_floating_point() and min(each.shape[-2:]) > 1:
            return each[:1] if each.dim() == 4 else each
    return None


def _maps(
    run: Callable, inputs: tuple, model: nn.Module, image: Tensor
) -> dict[str, Tensor]:
    """The maps of a model's modules, with another image for the first."""
    first = [True]

    def change(each: Tensor) -> Tensor:
        is_image = image_of((each,)) is not None
        if is_image and first:
            first.clear()
            return image
        return each.to(image) if each.is_floating_point() else each

    changed = tree_map_only(Tensor, change, inputs)
    return receptive_field.maps_of(model, lambda: run(model, changed), image)


def _peak_mb(run: Callable[[], object], device: str) -> float:
    with torch.no_grad():
        return peak_mb(run, device)


def trace_of(model: nn.Module, run: Callable[[], object]) -> str:
    """A pass by `torch.profiler`, with the paths of modules in it."""
    names = {
        id(module): name or '(root)' for name, module in model.named_modules()
    }
    opened = []

    def begin(module: nn.Module, _) -> None:
        opened.append(
            record_function(names.get(id(module), type(module).__name__))
        )
        opened[-1].__enter__()

    def end(*_) -> None:
        opened.pop().__exit__(None, None, None)

    handles = [
        hooks.register_module_forward_pre_hook(begin),
        hooks.register_module_forward_hook(end, always_call=True),
    ]
    try:
        with torch.no_grad(), profile(record_shapes=True) as profiler:
            run()
    finally:
        for handle in handles:
            handle.remove()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        return path.read_text()


def reason_of(error: Exception) -> str:
    """The first line of what an exception says."""
    first = str(error).strip().partition('\n')[0].partition(' Hint: ')[0]
    if is_out_of_memory(error):
        return f'does not fit in memory: {shorten(first, 120)}'
    return f'{type(error).__name__}: {shorten(first, 120)}'
