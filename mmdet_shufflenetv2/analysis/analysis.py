"""How everything is found out about a network, and in which order.

Recording and timing come first. Each later step costs only its own figures
where it fails, and the result says why.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.profiler import profile, record_function
from torch.utils._pytree import tree_map_only

from ..measure.memory import peak_mb, weights_mb
from ..measure.setting import PRECISIONS, Setting, describe
from ..measure.timing import CLOCKS, Effort
from . import receptive_field, roofline, twins
from .advice import advise
from .findings import Findings
from .layers import layers_of
from .operations import tensors_of
from .receptive_field import Features
from .recording import Laps, record, time_operations
from .report import layer_rows, report, write_csv, write_json
from .ways import DEFAULT_WAYS, measure_ways

QUICK = Effort(min_runs=4, max_runs=5, seconds=0.02, warmup_seconds=1e-3)
# Images for gradients need no more; a deep network's field is this wide.
GRADIENT_SIDE = 512
# For layers beside their twins; the slowest layers come first.
TWIN_SECONDS = 120


class Analysis(Findings):
    """What was found, and how it is shown."""

    advice = property(advise)
    rows = layer_rows
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
    full = Effort(5, 100, seconds, seconds / 3)
    efforts = full, roofline.EFFORT, twins.EFFORT
    effort, for_peaks, for_twins = [QUICK] * 3 if quick else efforts
    watch = setting.stopwatch()
    place = torch.device(setting.device), dtype
    once = torch.no_grad()(partial(run, model, inputs))
    make_laps = partial(Laps, CLOCKS[setting.clock], setting.on_gpu)
    # The load of what else runs, before the analysis adds its own.
    environment = describe(setting)
    if dtype == torch.float64:
        environment['precision'] = 'fp64'
    with _evaluating(model):
        progress('recording')
        laps = make_laps()
        recorded = record(model, once, laps)
        progress('measuring the machine')
        peaks = roofline.measure_peaks(*place, watch, for_peaks)
        progress('timing')
        names = [op.name for op in recorded]
        times = time_operations(
            once, names, laps.read_ms(), effort, watch, make_laps
        )
        uncounted = [op.name for op in recorded if op.work.flops is None]
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
            not_counted=dict(Counter(uncounted)),
            notes=list(notes),
            facts=dict(facts or {}),
        )

        def attempt(name: str, stage: str, step: Callable, *args) -> None:
            """Put what a step finds out into the result, or why it cannot."""
            progress(stage)
            try:
                setattr(result, name, step(*args))
            except Exception as error:
                reason = twins.reason_of(error)
                result.problems.append(f'{stage}: {reason}')

        attempt('peak_mb', 'memory', peak_mb, once, setting.device)
        attempt('trace', 'trace', trace_of, model, once)
        compare = twins.comparison(*place, watch, for_twins)
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
            attempt(
                *('fields', 'theoretical receptive fields'),
                *(receptive_field.theoretical_fields, model, image, maps),
            )
            small = image[..., :GRADIENT_SIDE, :GRADIENT_SIDE]
            samples = min(samples, 1) if quick else samples
            attempt(
                *('gradients', 'effective receptive fields'),
                *(receptive_field.gradient_maps, model, small, maps, samples),
            )
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
    first = [image]

    def change(each: Tensor) -> Tensor:
        if first and image_of((each,)) is not None:
            return first.pop()
        return each.to(image) if each.is_floating_point() else each

    changed = tree_map_only(Tensor, change, inputs)
    return receptive_field.maps_of(model, lambda: run(model, changed), image)


def trace_of(model: nn.Module, run: Callable[[], object]) -> str:
    """A pass by `torch.profiler`, with the paths of modules in it."""
    names = {id(m): name or '(root)' for name, m in model.named_modules()}
    opened = []

    def begin(module: nn.Module, _) -> None:
        name = names.get(id(module), type(module).__name__)
        opened.append(record_function(name))
        opened[-1].__enter__()

    def end(*_) -> None:
        opened.pop().__exit__(None, None, None)

    handles = [
        hooks.register_module_forward_pre_hook(begin),
        hooks.register_module_forward_hook(end, always_call=True),
    ]
    try:
        with profile(record_shapes=True) as profiler:
            run()
    finally:
        for handle in handles:
            handle.remove()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        return path.read_text()
