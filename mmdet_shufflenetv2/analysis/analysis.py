"""Analyse a network: the steps, their order, and the result.

Recording and timing come first and must succeed. If a later step fails, only
its own figures are missing, and the result says why.
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
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from ..measure.memory import peak_mb, weights_mb
from ..measure.setting import PRECISIONS, Setting, describe
from ..measure.timing import CLOCKS, WIDE, Effort
from . import roofline, twins
from .advice import DEFAULT_WAYS, Advice, advise, measure_ways
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
# Images for gradients are cropped to this side, the field of a deep network.
GRADIENT_SIDE = 512
# Seconds for comparing layers with their twins, the slowest layers first.
TWIN_SECONDS = 120


@dataclass
class Analysis:
    """The result of an analysis.

    Attributes:
        inputs: shapes of the input tensors.
        batch: number of images, or of other inputs, in a pass.
        size: (H, W) of the first images among the inputs, or None.
        environment: machine, setting, versions, and the load beforehand.
        is_quick: whether every measurement was cut short.
        is_trained: whether the weights are trained; effective receptive
            fields of random weights are less informative.
        not_counted: number of calls of each operation that FLOPs leave out.
        notes: further lines for the report.
        problems: the steps that failed, and why.
        peak_mb: peak memory of a pass, without the weights.
        ways: other ways to run the network, timed in turn with it.
        fields: theoretical receptive field of each level.
        gradients: map (H, W) of where each level's gradient comes from.
        trace: a pass in `torch.profiler`'s Chrome trace format.
    """

    name: str
    inputs: list[tuple[int, ...]]
    batch: int
    size: tuple[int, int] | None
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
    ways: dict[str, Advice] = field(default_factory=dict)
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
        """Write the timeline of a pass for ui.perfetto.dev."""
        Path(path).write_text(self.trace)

    @property
    def flops(self) -> int:
        """Multiply-adds of a pass."""
        return sum(layer.flops for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes read and written in a pass."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def ms(self) -> float:
        """Median time of an undisturbed pass."""
        return self.times.whole_ms.median

    def floor_ms(self, *layers: Layer) -> float:
        """The lower bound that the roofline sets for these layers."""
        return sum(self.peaks.floor_ms(e.flops, e.bytes) for e in layers)

    @property
    def kinds_ms(self) -> dict[str, float]:
        """Time of each kind of work, followed by the rest of the pass."""
        times = sum(self.parts_ms.values(), Counter())
        result = {kind: times[kind] for kind in KINDS if kind in times}
        return result | {BETWEEN: self.ms - times.total()}

    @property
    def parts_ms(self) -> dict[str, Counter[str]]:
        """Time of each part of the network, by kind of work."""
        result: dict[str, Counter] = {}
        for layer in self.layers:
            part = result.setdefault(layer.part or '(network)', Counter())
            part[layer.kind] += layer.ms
        return result

    @property
    def warnings(self) -> list[str]:
        """Reasons why the times should not be trusted."""
        where, found = self.environment, []
        # A quick analysis has no time to settle, and its report says so.
        if not (self.is_quick or self.times.whole.settled):
            found.append('warm-up did not settle')
        if self.times.whole_ms.width > WIDE:
            found.append(f'spread {self.times.whole_ms.width:.0%}')
        # Constant load slows passes without spreading them. Processor time
        # excludes other processes.
        load = where['load'] or 0
        if where['clock'] == 'wall' and load > where['cores']:
            found.append('all cores were busy with other work beforehand')
        if not self.times.repeats:
            found.append(
                'each pass executes different operations, so layer times '
                'come from a single pass'
            )
        return found


@torch.inference_mode(False)
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
    """Measure what a network costs, where its time goes and what would help.

    Only PyTorch is required. The network runs in evaluation mode, on the
    device and in the precision of its weights. It and its inputs are not
    modified.

    Args:
        model: any network that is neither compiled, scripted nor exported.
        inputs: the input tensor, or a tuple of arguments. Receptive fields
            refer to the first batch of images in the first argument.
        name: name for the report; by default the model's class.
        run: runs one pass, if that takes more than ``model(*inputs)``.
        features: returns the maps, by name, whose receptive fields are
            measured, given a model and an image; by default the last map of
            each size.
        quick: measure everything with a few runs only, as a first look.
        seconds: time budget for timing the network.
        samples: images for the effective receptive field, 0 for none.
        ways: alternative ways to run the network, keys of `advice.WAYS`.
        setting: the setting of the process; by default that of the model,
            measured in elapsed time.
        is_trained: whether the weights are trained.
        notes: further lines for the report.
        progress: called with the name of each step before it starts.

    Raises:
        ValueError: the network's operations cannot be attributed to modules.
    """
    _require_eager(model)
    # Silence the profiler's messages on stderr.
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
    inputs, notes = tree_map_only(Tensor, torch.clone, inputs), [*notes]
    versions = [each._version for each in tensors_of(inputs)]
    # Read the load before the analysis adds its own.
    environment = describe(setting)
    if dtype == torch.float64:
        environment['precision'] = 'fp64'
    with _evaluating(model):
        progress('recording')
        # Exclude one-time work, such as buffers that are cached.
        original = tree_map_only(Tensor, torch.clone, inputs)
        with torch.no_grad():
            run(model, inputs)
        if versions != [each._version for each in tensors_of(inputs)]:
            notes.append('the network overwrites its input: passes copy it')
            inputs, run = original, partial(_run_on_copy, run)
        once = torch.no_grad()(partial(run, model, inputs))
        recorder = record(model, once, *clock)
        progress('measuring the machine')
        peaks = roofline.measure_peaks(
            *place, watch, QUICK if quick else roofline.EFFORT
        )
        progress('timing')
        times = time_operations(once, recorder, effort, watch, *clock)
        recorded = recorder.operations
        layers = layers_of(model, recorded, times.sum_ms)
        batch, size = _images_of(inputs, layers)
        result = Analysis(
            name=name or type(model).__name__,
            inputs=[tuple(each.shape) for each in tensors_of(inputs)],
            batch=batch,
            size=size,
            environment=environment,
            is_quick=quick,
            is_trained=is_trained,
            times=times,
            layers=layers,
            peaks=peaks,
            params=sum(p.numel() for p in model.parameters()),
            weights_mb=weights_mb(model),
            not_counted=dict(
                Counter(op.name for op in recorded if op.flops is None)
            ),
            notes=notes,
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
            result.ways = measure_ways(
                *(model, inputs, run, features, watch, result.ms, ways, half)
            )
        leaves, tree = tree_flatten(inputs[:1])
        images = [*map(_is_images, leaves)]
        if True not in images:
            if size:
                result.problems.append(
                    'receptive fields: expected a batch of images '
                    '(N, C, H, W) in the first argument'
                )
            return result
        place = images.index(True)

        def own_maps(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
            given = [*leaves[:place], image, *leaves[place + 1 :]]
            given = (*tree_unflatten(given, tree), *inputs[1:])
            return maps_of(model, partial(run, model, given), image)

        image, maps = leaves[place][:1], features or own_maps
        with attempt('theoretical receptive fields'):
            result.fields = theoretical_fields(model, image, maps)
        with attempt('effective receptive fields'):
            image = image[..., :GRADIENT_SIDE, :GRADIENT_SIDE]
            samples = min(samples, 1) if quick else samples
            result.gradients = gradient_maps(model, image, maps, samples)
        unknown = [n for n in result.gradients if n not in result.fields]
        if result.fields and unknown:
            result.problems.append(
                f'theoretical receptive fields: {", ".join(unknown)} would '
                'need a larger probe'
            )
    return result


def _require_eager(model: nn.Module) -> None:
    """Raise an error if operations would not run in the modules' own code."""
    what = ''
    if isinstance(model, torch.jit.ScriptModule):
        what = 'a scripted'
    elif 'eval' in vars(model):
        what = 'an exported'
    elif any(
        hasattr(each, '_orig_mod')
        or getattr(each, '_compiled_call_impl', None) is not None
        for each in model.modules()
    ):
        what = 'a compiled'
    if what:
        raise ValueError(
            f'model: expected a network as written, got {what} one, whose '
            'operations do not belong to modules (torch.compile keeps the '
            'original as _orig_mod)'
        )


def _run_on_copy(run: Callable, model: nn.Module, inputs: tuple) -> object:
    return run(model, tree_map_only(Tensor, torch.clone, inputs))


def _is_images(value: object) -> bool:
    """Whether an argument holds images of more than one pixel."""
    return (
        isinstance(value, Tensor)
        and value.dim() == 4
        and value.is_floating_point()
        and min(value.shape[2:]) > 1
    )


def _images_of(
    inputs: tuple, layers: Sequence[Layer]
) -> tuple[int, tuple[int, int] | None]:
    """The batch size, and (H, W) of the images if there are any.

    Images may also come as a list of (C, H, W). A single tensor of that shape
    is an image if the first convolution has another batch size.
    """
    first = inputs[0] if inputs else None
    while isinstance(first, dict) and first:
        first = next(iter(first.values()))
    shapes = [tuple(each.shape) for each in tensors_of(first)]
    shapes = shapes or [tuple(each.shape) for each in tensors_of(inputs)]
    size = next((s[2:] for s in shapes if len(s) == 4), None)
    if not shapes or not shapes[0]:
        return 1, size
    batch = shapes[0][0]
    if len(shapes[0]) == 3:
        batches = (e.convolution.batch for e in layers if e.convolution)
        if isinstance(first, list | tuple):
            return len(shapes), shapes[0][1:]
        if (found := next(batches, batch)) != batch:
            return found, shapes[0][1:]
    return batch, size


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Use evaluation mode, then restore the modes and the random state."""
    training = [each for each in model.modules() if each.training]
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for each in training:
            each.training = True


def trace_of(model: nn.Module, run: Callable[[], object]) -> str:
    """Profile a pass with `torch.profiler`, labelled with module paths."""
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
