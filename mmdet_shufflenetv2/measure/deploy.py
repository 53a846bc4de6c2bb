"""Exported detectors against eager ones, other files and the CPU's peak rate.

Each competitor runs in its own process (see `process`), in turn. Weights are
random and seeded, and scaled so that NMS has work to do. A detector is timed
from an image array to final boxes. Files given by ``--against`` or ``--int8``
are timed as bare networks on random input.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ..backbones.shufflenet_v2 import ShuffleNetV2
from ..deploy.export import export, samples_of
from ..deploy.folding import Backbone
from ..deploy.runtime import Detector
from ..engine.early_log import quiet_log
from ..engine.run_config import load_config
from ..engine.run_data import set_classes
from ..errors import UserError
from .benchmark import SIZE, Benchmark, Row, Time, size_text
from .detectors import PARTS, TimedDetector, config_path
from .flops import macs
from .memory import peak_mb
from .process import Process
from .setting import Setting
from .timing import Effort, significant, timed, timed_columns

HELP = "exported detectors against eager ones, other files and the CPU's peak"
EXAMPLE = '--against nanodet_m_416.onnx --int8 fp32.onnx int8.onnx'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=5, max_runs=100, seconds=20, warmup_seconds=10)
# Estimate per case for exporting and for starting processes.
SETUP_SECONDS = 30
COLUMNS = (
    *('case', 'what', 'against', 'input', 'batch'),
    *timed_columns('times_faster'),
    *('against_ms', 'gmac_per_s', 'against_gmac_per_s', 'ps_roi_share'),
    *('peak_mb', 'against_peak_mb'),
)
STOCK = 'swap/faster-rcnn_shufflenetv2_fpn_coco'
FULL, TRAINING = 'lighthead_shufflenetv2', 'lighthead_shufflenetv2_custom'
LIGHT = {
    'light/lighthead_shufflenetv2_x0_5_416': (416, 416),
    'light/lighthead_shufflenetv2_x1_0_416': (416, 416),
    'light/thundernet_snet49_320': (320, 320),
    'light/thundernet_snet146_320': (320, 320),
}
SIDE, ROIS, TRAINING_BATCH = 2048, 300, 8
PRODUCT = size_text((SIDE, SIDE))
Size = tuple[int, int]
# A config, a file, a backbone or `PRODUCT`.
Source = str | Path
# From the arguments: sources, what each is compared with, and image sizes.
CASES: dict[str, Callable[..., list[tuple[Source, Source, Size | None]]]] = {
    'eager detector': lambda args: [(FULL, STOCK, args.size or (1200, 800))],
    'matrix product': lambda args: [(FULL, PRODUCT, args.size or (1200, 800))],
    'other file': lambda args: [
        (config, Path(path), args.size or own)
        for path in args.against
        for config, own in LIGHT.items()
    ],
    'int8': lambda args: (
        [(*map(Path, args.int8[::-1]), None)] if args.int8 else []
    ),
    'PSRoI align': lambda args: [
        (config, '', args.size or own)
        for config, own in list(LIGHT.items())[:2]
    ],
    'backbone': lambda args: [
        ('ShuffleNetV2', 'torchvision', own)
        for own in ([args.size] if args.size else [(224, 224), (1216, 800)])
    ],
    'training step': lambda args: [(TRAINING, STOCK, args.size or (480, 360))],
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select cases and files."""
    add = parser.add_argument
    cases = list(CASES)
    add('--case', nargs='+', choices=cases, default=cases, help='default: all')
    files = dict(nargs='+', default=[], metavar='FILE.onnx')
    add('--against', **files, help='networks to compare small detectors with')
    files = dict(nargs=2, metavar=('FP32.onnx', 'INT8.onnx'))
    add('--int8', **files, help='the same detector in both precisions')
    add('--size', **SIZE, help='size of all images; default: by case')


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each case, except those whose files were not given.

    Raises:
        UserError: a file is no ONNX model, or a setting is not fp32 on a CPU.
    """
    for path in (*args.against, *(args.int8 or ())):
        if not Path(path).is_file():
            raise UserError(f'no file {path}')
        try:
            network_alone(path, threads=1)
        except Exception as error:  # ONNX Runtime has many, with no base
            raise UserError(
                f'{path}: expected an ONNX model, got {error}'
            ) from error
    if any(s.on_gpu or s.precision != 'fp32' for s in settings):
        raise UserError('deploy: expected --device cpu --precision fp32')
    found = []
    for setting, case in product(settings, CASES):
        for what, against, size in CASES[case](args):
            if case in args.case:
                key = {
                    'case': case,
                    'what': getattr(what, 'name', what),
                    'against': getattr(against, 'name', against),
                    'input': size_text(size) if size else '',
                    'batch': TRAINING_BATCH if case == 'training step' else 1,
                }
                sources = [each for each in (what, against) if each]
                measure = partial(_measure, setting, case, sources, size)
                found.append(Benchmark(key, setting, measure))
    return found


def _measure(
    setting: Setting,
    case: str,
    sources: list[Source],
    size: Size | None,
    time: Time,
) -> list[Row]:
    builds = [_competitor(case, each, size, setting) for each in sources]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Process(build, setting)) for build in builds
        ]
        times = list(time(dict(enumerate(processes))).values())
    mine, other, *_ = *times, None
    row = timed(mine, 'times_faster', other, mine)
    if other:
        row['against_ms'] = other.median_ms
    if case == 'matrix product':
        counts = _in_process(_macs, sources[0], size), SIDE**3
        rates = [
            significant(count / each.median_ms / 1e6)
            for each, count in zip(times, counts, strict=True)
        ]
        row['gmac_per_s'], row['against_gmac_per_s'] = rates
    if case == 'PSRoI align':
        path, *_ = builds[0].args
        row['ps_roi_share'] = _in_process(_ps_roi_share, path, setting.threads)
    if case == 'training step':
        peaks = [_in_process(_peak, build, setting) for build in builds]
        row['peak_mb'], row['against_peak_mb'] = peaks
    return [row]


def _competitor(
    case: str, source: Source, size: Size | None, setting: Setting
) -> partial:
    """Return a picklable function that builds a competitor."""
    threads = setting.threads
    if case == 'training step':
        return partial(training, source, size, setting)
    if case == 'backbone':
        source = _file(_export_backbone, source, size)
    if isinstance(source, Path):
        return partial(network_alone, source, threads)
    if source == PRODUCT:
        return partial(matrix_product)
    if source == STOCK:
        return partial(stock, source, size)
    rois = ROIS if case == 'PSRoI align' else None
    return partial(exported, _file(_export, source, size, rois), size, threads)


def _in_process(function: Callable, *args: object) -> object:
    """Call a function of this module in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


@cache
def _folder() -> TemporaryDirectory:
    return TemporaryDirectory()


@cache
def _file(export: Callable, *args: object) -> Path:
    """Export a file, once for all cases of a run, and return its path."""
    folder = Path(_folder().name)
    path = folder / f'{len(list(folder.iterdir()))}.onnx'
    _in_process(export, *args, path)
    return path


# The functions below run in other processes.


def _image(size: Size) -> np.ndarray:
    width, height = size
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, 3), np.uint8)


def _export(config: str, size: Size, rois: int | None, path: Path) -> None:
    options = dict(image_size=size, proposals=rois, pictures=None)
    export(seeded_detector(config_path(config)), str(path), **options)


def _export_backbone(source: str, size: Size, path: Path) -> None:
    torch.manual_seed(0)
    if source == 'torchvision':
        from torchvision.models import shufflenet_v2_x1_0

        network = shufflenet_v2_x1_0(weights=None)
        names = 'conv1', 'maxpool', 'stage2', 'stage3', 'stage4', 'conv5'
        network = torch.nn.Sequential(*(getattr(network, n) for n in names))
    else:
        network = Backbone(ShuffleNetV2(1.0, out_indices=(3,)).eval())
    torch.onnx.export(
        network.eval(),
        (torch.randn(1, 3, *reversed(size)),),
        str(path),
        dynamo=True,
        opset_version=18,
        external_data=False,
        verbose=False,
    )


def exported(path: Path, size: Size, threads: int) -> Callable:
    """An exported detector, from an image array to final boxes."""
    return partial(Detector(str(path), threads=threads), _image(size))


def network_alone(path: Path, threads: int, profile: str = '') -> partial:
    """Any ONNX network on random input; dynamic dimensions are set to 1."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )
    generator = np.random.default_rng(0)
    types = {'tensor(uint8)': np.uint8, 'tensor(float16)': np.float16}
    feed = {}
    for each in session.get_inputs():
        shape = [n if isinstance(n, int) else 1 for n in each.shape]
        values = generator.random(shape) * (255 if 'int8' in each.type else 1)
        feed[each.name] = values.astype(types.get(each.type, np.float32))
    # An exported detector also takes the height and width of its images.
    if feed.keys() == {'image', 'size'}:
        feed['size'][:] = feed['image'].shape[1:3]
    return partial(session.run, None, feed)


@torch.no_grad()
def seeded_detector(
    config: str | Path,
    seed: int = 0,
    classes: tuple[str, ...] = (),
    **changes,
) -> nn.Module:
    """Build a config's detector with random weights.

    The last layers are scaled so that scores and boxes vary between RoIs and
    NMS has work to do, in every network. ``changes`` override ``model`` keys.
    """
    cfg = Config.fromfile(config)
    cfg.model.backbone.pop('init_cfg', None)
    number = cfg.model.roi_head.bbox_head.num_classes
    classes = classes or tuple(f'class {i}' for i in range(number))
    set_classes(cfg, classes)
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model).eval()
    model.cfg, model.dataset_meta = cfg, dict(classes=classes)
    for name, value in model.named_buffers():
        if name.endswith('running_mean'):
            value.normal_(0, 0.1)
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
    deviations = dict(rpn_cls=2, fc_cls=2, score_conv=2)
    deviations |= dict(rpn_reg=0.3, fc_reg=0.5, box_conv=0.5)
    names = {layer: name for name, layer in model.named_modules()}

    def scale(layer, inputs, output):
        deviation = deviations.get(names.pop(layer, '').split('.')[-1])
        if deviation is None:
            return output
        layer.bias.zero_()
        layer.weight *= deviation / layer.forward(*inputs).std()
        return layer.forward(*inputs)

    with register_module_forward_hook(scale):
        model.predict(torch.randn(1, 3, 96, 128), samples_of([(96, 128)]))
    return model


def stock(config: str, size: Size) -> Callable:
    """A config's detector as mmdet runs it, on an image array."""
    model = seeded_detector(config_path(config))
    image = torch.from_numpy(_image(size)).permute(2, 0, 1).contiguous()

    def run() -> object:
        data = samples_of([tuple(image.shape[1:])])
        return model.test_step(dict(inputs=[image], data_samples=data))

    return torch.inference_mode()(run)


def matrix_product() -> Callable:
    """A large matrix product."""
    return partial(torch.mm, *torch.randn(2, SIDE, SIDE))


@quiet_log('ERROR')
def training(config: str, size: Size, setting: Setting) -> Callable:
    """A training step of a config's detector."""
    cfg = load_config(str(config_path(config)))
    detector = TimedDetector(cfg, size, TRAINING_BATCH, setting)
    return PARTS['training step'](detector)


def _peak(build: Callable, setting: Setting) -> float:
    setting.apply()
    run = build()
    run()
    return significant(peak_mb(run, 'cpu'))


def _macs(config: str, size: Size) -> int:
    return macs(stock(config, size))


def _ps_roi_share(path: Path, threads: int) -> float:
    """Share of PSRoI align, boxes included, in the time of all nodes."""
    import onnx

    nodes = onnx.load(str(path)).graph.node
    makers = {name: node for node in nodes for name in node.output}
    aligns = [node for node in nodes if node.op_type == 'RoiAlign']
    if not aligns:
        raise UserError(f'{path}: expected a RoiAlign node, found none')
    names = {node.name for node in aligns}
    # Include the nodes that compute the boxes, traced back from RoiAlign.
    inputs = [node.input[1] for node in aligns]
    while inputs:
        node = makers.get(inputs.pop())
        if node and node.op_type in ('MatMul', 'Add', 'Reshape', 'Concat'):
            names.add(node.name)
            inputs += node.input
    run = network_alone(path, threads, str(path.with_suffix('')))
    for _ in range(10):
        run()
    session = run.func.__self__
    events = json.loads(Path(session.end_profiling()).read_text())
    total = align = 0
    for event in events:
        if event.get('cat') == 'Node':
            total += event['dur']
            # Nodes that ONNX Runtime rewrote have new names.
            is_align = event['args'].get('op_name') == 'RoiAlign'
            name = event['name'].removesuffix('_kernel_time')
            align += event['dur'] * (is_align or name in names)
    return significant(align / total)
