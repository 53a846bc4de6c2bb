"""Write a whole two-stage detector into one file, and prove it.

An ONNX file has standard operators of the default domain only, image in and
final boxes out, at a fixed number of rows (see :mod:`.graph`). What a runner
must know (classes, resize rule, input order, thresholds) is in its metadata,
as JSON. After writing, the file and the original run on the same pictures;
only a file that agrees takes the place of an earlier one.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ..engine.run_data import set_classes
from ..errors import UserError
from ..ops import PSRoIPool
from . import runtime
from .detector import load_checkpoint
from .folding import pick
from .graph import DetectorGraph
from .runtime import Resize

OPSET = 18
# Backbones halve the image five times.
DIVISOR = 32
SUFFIXES = dict(onnx='.onnx', openvino='.xml', ncnn='.param')


class Tolerance(NamedTuple):
    """What a file may differ in from its original.

    Attributes:
        features: Of the map that RoIs read, relative to its largest value.
        score, box: Of a detection; the box in pixels.
        share: Of the detections, how many may differ more: a box on the edge
            of a threshold falls to its other side.
        least: The score from which detections are compared.
    """

    features: float
    score: float = 0.0
    box: float = 0.0
    share: float = 0.0
    least: float = 0.0


TOLERANCES = dict(
    fp32=Tolerance(1e-3, 1e-3, 0.5, 0.02),
    fp16=Tolerance(1e-2, 1e-2, 2.0, 0.05),
    int8=Tolerance(0.5, 0.3, 16.0, 0.2, 0.3),
    # It computes in float16 where it can.
    ncnn=Tolerance(0.05),
)
# Of PSRoIPool, which rounds the edges of RoIs to cells.
POOLED_SHARE = 0.05


@dataclass
class Differences:
    """The largest differences between a file and its original.

    ``features``, ``scores`` and ``boxes`` are as in :class:`Tolerance`, of
    detections that both have; ``missing`` are those of the ``compared`` ones
    of the original that the file does not have.
    """

    allowed: Tolerance = TOLERANCES['fp32']
    features: float = 0.0
    scores: float = 0.0
    boxes: float = 0.0
    compared: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        most = self.allowed.share * self.compared
        is_close = self.features <= self.allowed.features
        return is_close and len(self.missing) <= most

    def __str__(self) -> str:
        return (
            f'features {self.features:.1e} of their largest value, scores '
            f'{self.scores:.1e}, boxes {self.boxes:.1e} pixels, '
            f'{len(self.missing)} of {self.compared} detections missing'
        )


def export(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    config: str | os.PathLike | None = None,
    **options,
) -> Differences | None:
    """Write a checkpoint's detector; options as in `write_detector`."""
    detector = load_checkpoint(checkpoint, config)
    source = Path(checkpoint).name
    return write_detector(detector, output, source=source, **options)


def export_config(
    config: str | os.PathLike, output: str | os.PathLike, **options
) -> None:
    """Write a config's detector with random weights, to measure its speed."""
    detector = seeded_detector(config, options.pop('seed', 0))
    write_detector(detector, output, pictures=None, **options)


@torch.no_grad()
def seeded_detector(
    config: str | os.PathLike,
    seed: int = 0,
    classes: tuple[str, ...] = (),
    **changes,
) -> nn.Module:
    """A config's detector with random weights that finds as much as others.

    Its last layers are scaled so that scores and boxes differ from RoI to
    RoI, and suppression has work to do.

    Args:
        config: The config file.
        seed: Of the weights.
        classes: Their names; as many as the config has by default.
        changes: Of the config's ``model``.
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

    def scale(layer, inputs, output):
        bias = layer.bias.view(-1, *[1] * (output.dim() - 2))
        deviation = (output - bias).std().clamp(min=1e-9)
        layer.weight *= layer.deviation / deviation
        layer.bias.zero_()
        return layer.forward(*inputs)

    with ExitStack() as hooks:
        for name, layer in model.named_modules():
            if name.split('.')[-1] in deviations:
                layer.deviation = deviations[name.split('.')[-1]]
                hooks.enter_context(layer.register_forward_hook(scale))
        model.predict(torch.randn(1, 3, 96, 128), samples_of([(96, 128)]))
    return model


def write_detector(
    detector: nn.Module,
    output: str | os.PathLike,
    *,
    source: str = 'the original',
    format: str = 'onnx',
    precision: str = 'fp32',
    calibration: Iterable = (),
    image_size: tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: bool = False,
    proposals: int | None = None,
    pictures: Iterable | None = (),
    log: Callable[[str], None] = print,
) -> Differences | None:
    """Write a detector to a file.

    Args:
        detector: It, with its ``cfg`` and ``dataset_meta``.
        output: The file, whose name ends as its format asks for.
        source: The name of its checkpoint.
        format: One of ``SUFFIXES``.
        precision: ``'fp32'``, ``'fp16'`` or ``'int8'``.
        calibration: The pictures that int8 takes the ranges of values from.
        image_size: Width and height that images are made to fit into; the
            config's test size by default.
        batch: N, images of one call.
        dynamic: Leave height and width free, in multiples of 32.
        proposals: K; the config's ``test_cfg.rpn.max_per_img`` by default.
        pictures: What to compare the two on, synthetic ones if empty; with
            ``None`` they are not compared.
        log: Called with each line of the report.

    Returns:
        The differences that were found, ``None`` if nothing was compared.

    Raises:
        UserError: The detector has a part that is not exported here, or the
            file disagrees; an earlier file stays as it was.
    """
    output = Path(output)
    if output.suffix != SUFFIXES[format]:
        raise UserError(
            f'{output}: expected a name that ends in {SUFFIXES[format]}'
        )
    for name in 'onnx', 'onnxscript', 'onnxruntime':
        runtime.load_package(name)
    from . import formats

    rule = resize_rule(detector.cfg)
    if image_size is not None:
        rule = rule._replace(width=image_size[0], height=image_size[1])
    # A canvas of a fixed size cannot be turned.
    rule = rule._replace(turn=rule.turn and dynamic)
    graph = DetectorGraph(detector, proposals, dynamic).eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=output.parent, prefix='.export-')
    with folder as scratch:
        path = Path(scratch, output.name)
        if format == 'ncnn':
            found = write_network(graph, rule, path, precision, log)
        else:
            model = to_onnx(graph, rule, batch)
            metadata = describe(graph, rule, source, precision)
            file = path.with_suffix('.onnx')
            write(model, file, metadata)
            # Two threads are enough, and more would disturb PyTorch.
            runner = runtime.Detector(file, threads=2)
            if precision == 'int8':
                feeds = prepared(runner, calibration, log)
                model = formats.quantized(model, (each[0] for each in feeds))
            elif precision == 'fp16':
                model = formats.halved(model)
            write(model, file, metadata)
            if format == 'openvino':
                formats.to_openvino(file, path, precision == 'fp16')
                file.unlink()
            size = sum(each.stat().st_size for each in path.parent.iterdir())
            sides = 'x'.join(map(str, canvas(rule)[::-1]))
            log(
                f'{output}: opset {OPSET}, {precision}, {size / 1e6:.1f} MB, '
                f'{batch} x {"dynamic" if dynamic else sides}, '
                f'{graph.proposals} proposals, {graph.detections} detections'
            )
            found = None
            if pictures is not None:
                runner = runtime.Detector(path, threads=2)
                if not (pictures := list(pictures)):
                    pictures = synthetic(*rule[:2])
                    log('compared on synthetic pictures; --images takes real')
                found = compare(graph, model, runner, pictures, precision, log)
        if found is not None:
            log(f'largest differences: {found}')
            for line in found.missing[: 0 if found.agree else 10]:
                log(f'  {line}')
            if not found.agree:
                raise UserError(
                    f'{output}: the file does not agree with {source} '
                    f'(allowed: features {found.allowed.features:.0e}, '
                    f'{found.allowed.share:.0%} of the detections); not '
                    'written'
                )
        for each in Path(scratch).iterdir():
            os.replace(each, output.parent / each.name)
    return found


def resize_rule(cfg: Config) -> Resize:
    """How a config's test pipeline resizes an image.

    Raises:
        UserError: It has no ``Resize`` of one scale.
    """
    for step in get_test_pipeline_cfg(cfg):
        scale = step.get('scale')
        if step.get('type') in ('Resize', 'mmdet.Resize') and scale:
            keep_ratio = bool(step.get('keep_ratio', False))
            return Resize(*scale, keep_ratio, turn=keep_ratio)
    raise UserError(
        'test_dataloader: expected a Resize with a scale in its pipeline'
    )


def canvas(rule: Resize) -> tuple[int, int]:
    """Height and width of the input: the rule's, in multiples of 32."""
    height, width = (
        -(-side // DIVISOR) * DIVISOR for side in (rule.height, rule.width)
    )
    return height, width


def to_onnx(graph: DetectorGraph, rule: Resize, batch: int):
    """The graph as an ``onnx.ModelProto``, with the features as an output."""
    from onnxscript import opset18 as op

    def nms_mask(boxes, scores, iou_threshold: float, most: int):
        # Padding has a score of -1.
        limits = [
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[-0.5]),
        ]
        each = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
        picked = op.NonMaxSuppression(boxes, each, *limits)
        # (image, class, box) of each survivor.
        place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
        number = op.Shape(picked, start=0, end=1)
        ones = op.Expand(op.Constant(value_floats=[1.0]), number)
        zeros = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(zeros, place, ones)

    def bin_align(planes, boxes, index, side: int, samples: int):
        sides = dict(output_height=side, output_width=side)
        options = dict(coordinate_transformation_mode='half_pixel', **sides)
        return op.RoiAlign(
            planes, boxes, index, sampling_ratio=samples, **options
        )

    height, width = canvas(rule)
    image = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    size = torch.tensor([[height, width]] * batch, dtype=torch.float32)
    shapes = None
    if graph.dynamic:
        free = {
            axis: DIVISOR * torch.export.Dim(name, min=2, max=256)
            for axis, name in ((1, 'rows'), (2, 'columns'))
        }
        shapes = {'image': free, 'size': {}}
    ops = torch.ops.mmdet_shufflenetv2
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            graph,
            (image, size),
            dynamo=True,
            opset_version=OPSET,
            input_names=['image', 'size'],
            output_names=[*runtime.OUTPUTS, 'features'],
            dynamic_shapes=shapes,
            custom_translation_table={
                ops.nms_mask.default: nms_mask,
                ops.bin_align.default: bin_align,
            },
            verbose=False,
        )
    model = program.model_proto
    # Names of source files and lines of the machine that exported.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    return model


def describe(
    graph: DetectorGraph, rule: Resize, source: str, precision: str
) -> dict:
    """What a runner must know, and where the file comes from."""
    from .. import __version__

    detector = graph.detector
    cfg = detector.test_cfg
    # mmdet's pipelines give BGR.
    is_rgb = detector.data_preprocessor._channel_conversion
    mean, std = (
        [round(value, 4) for value in each.flatten().tolist()]
        for each in (graph.mean, 1 / graph.scale)
    )
    return dict(
        format=runtime.FORMAT,
        classes=list(detector.dataset_meta['classes']),
        input=dict(
            layout='N x H x W x 3, uint8; padding on the right and below',
            order='RGB' if is_rgb else 'BGR',
            mean=mean,
            std=std,
        ),
        resize=rule._asdict(),
        thresholds=dict(
            score=cfg.rcnn.score_thr,
            nms=cfg.rcnn.nms.iou_threshold,
            proposal_nms=cfg.rpn.nms.iou_threshold,
            proposals=graph.proposals,
            detections=graph.detections,
        ),
        export=dict(source=source, version=__version__, opset=OPSET)
        | dict(precision=precision, torch=torch.__version__),
    )


def write(model, path: Path, metadata: dict) -> None:
    """Write the model without the output that only a comparison reads."""
    import onnx

    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[len(runtime.OUTPUTS) :]
    del model.metadata_props[:]
    model.producer_name = 'mmdet_shufflenetv2'
    model.producer_version = metadata['export']['version']
    for key, value in metadata.items():
        value = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def compare(
    graph: DetectorGraph, model, runner, pictures: list, precision: str, log
) -> Differences:
    """Run the file, ``model`` for its features, and the original."""
    full = runtime.OnnxRuntime(model.SerializeToString(), threads=2)
    allowed = TOLERANCES[precision]
    if isinstance(graph.layer, PSRoIPool):
        allowed = allowed._replace(share=max(allowed.share, POOLED_SHARE))
    found = Differences(allowed)
    for feed, name in prepared(runner, pictures, log):
        features, expected = original(graph, **feed)
        (given,) = full.run(['features'], feed)
        difference = np.abs(given - features).max() / np.abs(features).max()
        found.features = max(found.features, float(difference))
        boxes, scores, labels, count = (
            each[0] for each in runner._run(**feed)
        )
        match(found, name, expected, boxes[:count], scores, labels)
    return found


def prepared(
    runner: runtime.Detector, pictures: Iterable, log: Callable[[str], None]
) -> Iterable[tuple[dict, str]]:
    """What a file is fed for each picture, and its name."""
    usable = 0
    for picture in runtime.expand(pictures):
        try:
            one = runner._prepare(picture)
        except runtime.ImageError as error:
            log(str(error))
            continue
        usable += 1
        image, size = runner._padded([one])
        yield dict(image=image, size=size), one[2] or f'picture {usable}'
    if not usable:
        raise UserError('none of the pictures can be used')


def synthetic(width: int, height: int) -> list[np.ndarray]:
    """Patches of colours, for a comparison without any picture at hand."""
    generator = np.random.default_rng(0)
    pictures = []
    for side in 8, 32, 64:
        shape = -(-height // side), -(-width // side), 3
        patches = generator.integers(0, 256, shape, dtype=np.uint8)
        patches = patches.repeat(side, 0).repeat(side, 1)
        pictures.append(patches[:height, :width])
    return pictures


def samples_of(sizes: Iterable[tuple[int, int]]) -> list[DetDataSample]:
    """What mmdet wants beside images of these heights and widths."""
    same = dict(scale_factor=(1.0, 1.0))
    return [
        DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, **same))
        for size in sizes
    ]


@torch.inference_mode()
def original(
    graph: DetectorGraph, image: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, object]:
    """Features of a batch, and mmdet's own detections of its first image."""
    image, size = torch.from_numpy(image), torch.from_numpy(size)
    x = graph.normalized(image, size)
    samples = samples_of(map(tuple, size.int().tolist()))
    # In the order of the file's channels.
    features = graph.detector.extract_feat(x)[0]
    features = pick(features, graph.map_order, 1)
    test_cfg = graph.detector.rpn_head.test_cfg
    configured = test_cfg.max_per_img
    test_cfg.max_per_img = graph.proposals
    try:
        results = graph.detector.predict(x, samples, rescale=False)
    finally:
        test_cfg.max_per_img = configured
    return features.numpy(), results[0].pred_instances.numpy()


def match(
    found: Differences, name: str, expected, boxes, scores, labels
) -> None:
    """Add to the differences what one image's detections differ in.

    Each of the original's detections is paired with the file's nearest of
    its class. One whose score is at the end of the list may be missing.
    """
    scores, labels = scores[: len(boxes)], labels[: len(boxes)]
    allowed = found.allowed
    last = scores.min(initial=np.inf) + allowed.score
    for box, score, label in zip(
        expected.bboxes, expected.scores, expected.labels, strict=True
    ):
        if score < allowed.least:
            continue
        found.compared += 1
        same = np.flatnonzero(labels == label)
        box_off = np.abs(boxes[same] - box).max(1, initial=0)
        score_off = np.abs(scores[same] - score)
        off = np.maximum(box_off / allowed.box, score_off / allowed.score)
        best = off.argmin() if len(same) else None
        if best is not None and off[best] <= 1:
            found.boxes = max(found.boxes, float(box_off[best]))
            found.scores = max(found.scores, float(score_off[best]))
        elif score > last:
            box = np.round(box, 1).tolist()
            found.missing.append(
                f'{name}: class {label}, score {score:.3f}, box {box}'
            )


def write_network(
    graph: DetectorGraph, rule: Resize, path: Path, precision: str, log
) -> Differences | None:
    """Write backbone, neck and RPN for ncnn, which has no RoI operators."""
    from . import formats

    if precision != 'fp32':
        raise UserError('--format ncnn: convert the precision by ncnn itself')
    height, width = canvas(rule)
    image = torch.from_numpy(synthetic(width, height)[1][None])
    image = graph.normalized(image, torch.tensor([[height, width]]))
    with torch.no_grad():
        given = formats.to_ncnn(graph.folded, image, path)
        expected: tuple[Tensor, ...] = graph.folded(image)
    log(
        f'{path.name}: in0 3 x {height} x {width}, normalised; out0 the map '
        'that RoIs read, bin by bin; out1 scores, then deltas of anchors. '
        'Proposals, suppression, PSRoI pooling and the box head are not in '
        'it: ncnn has no such layers'
    )
    if given is None:
        log('not compared: pip install ncnn')
        return None
    found = Differences(TOLERANCES['ncnn'])
    for one, other in zip(given, expected, strict=True):
        off = np.abs(one - other.numpy()).max() / other.abs().max()
        found.features = max(found.features, float(off))
    return found
