"""Write a whole two-stage detector into one file, and prove it.

An ONNX file has standard operators of the default domain only, image in and
final boxes out, at a fixed number of rows (see :mod:`.graph`). What a runner
must know (classes, resize rule, input order, thresholds) is in its metadata,
as JSON. After writing, the file and the original run on the same pictures;
only a file that agrees takes the place of an earlier one.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
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
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from .. import __version__
from ..engine.run_data import set_classes
from ..errors import UserError
from ..ops import PSRoIPool
from . import runtime
from .folding import pick
from .graph import DetectorGraph

OPSET = 18
SUFFIXES = dict(onnx='.onnx', openvino='.xml', ncnn='.param')


class Tolerance(NamedTuple):
    """What a file may differ in from its original.

    Features are those of the map that RoIs read, relative to its largest
    value, boxes in pixels. A ``share`` of the detections may differ more: a
    box on the edge of a threshold falls to its other side. Those below
    ``least`` of their picture's best score are not compared.
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

    ``scores`` and ``boxes`` are of detections that both have; ``missing`` are
    those of the original's ``compared`` ones that the file does not have.
    """

    allowed: Tolerance = TOLERANCES['fp32']
    features: float = 0.0
    scores: float = 0.0
    boxes: float = 0.0
    compared: int = 0
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f'features {self.features:.1e} of their largest value, scores '
            f'{self.scores:.1e}, boxes {self.boxes:.1e} pixels, '
            f'{len(self.missing)} of {self.compared} detections missing'
        )

    @property
    def agree(self) -> bool:
        most = self.allowed.share * self.compared
        is_close = self.features <= self.allowed.features
        return is_close and len(self.missing) <= most

    def add_features(self, given: np.ndarray, expected: np.ndarray) -> None:
        off = np.abs(given - expected).max() / np.abs(expected).max()
        self.features = max(self.features, float(off))

    def add_detections(
        self, name, expected, boxes, scores, labels, *, threshold: float
    ) -> None:
        """Pair each of the original's with the file's nearest of its class.

        One may be missing whose score is at the threshold, or at the end of
        a list that is full.
        """
        rows = np.column_stack([boxes, scores])
        limits = np.array([*[self.allowed.box] * 4, self.allowed.score])
        last = scores[-1] if labels[-1] >= 0 else threshold
        last += min(self.allowed.score, 0.01)
        least = self.allowed.least * expected.scores.max(initial=0)
        for box, score, label in zip(
            expected.bboxes, expected.scores, expected.labels, strict=True
        ):
            if score < least:
                continue
            self.compared += 1
            off = np.abs(rows - [*box, score])
            ratio = (off / limits).max(1)
            best = np.where(labels == label, ratio, np.inf).argmin()
            if labels[best] == label and ratio[best] <= 1:
                self.boxes = max(self.boxes, float(off[best, :4].max()))
                self.scores = max(self.scores, float(off[best, 4]))
            elif score > last:
                box = np.round(box, 1).tolist()
                self.missing.append(
                    f'{name}: class {label}, score {score:.3f}, box {box}'
                )


def export(
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
        format, precision: ``SUFFIXES`` and ``TOLERANCES`` have their names.
        calibration: The pictures that int8 takes the ranges of values from.
        image_size: Width and height that images are made to fit into; the
            config's test size by default.
        batch: N, images of one call.
        dynamic: Leave height and width free, in multiples of 32.
        proposals: K; the config's ``test_cfg.rpn.max_per_img`` by default.
        pictures: What to compare the two on, synthetic ones if empty; with
            ``None`` they are not compared, and ``None`` is returned.
        log: Called with each line of the report.

    Raises:
        UserError: The detector has a part that is not exported here, or the
            file disagrees; an earlier file stays as it was.
    """
    output = Path(output)
    if output.suffix != SUFFIXES[format]:
        raise UserError(
            f'{output}: expected a name that ends in {SUFFIXES[format]}'
        )
    if format == 'ncnn' and precision != 'fp32':
        raise UserError('--format ncnn: convert the precision by ncnn itself')
    for name in 'onnx', 'onnxscript', 'onnxruntime':
        runtime.load_package(name)
    from . import formats

    rule = resize_rule(detector.cfg)
    if image_size is not None:
        rule = rule._replace(width=image_size[0], height=image_size[1])
    # A canvas of a fixed size cannot be turned.
    rule = rule._replace(turn=rule.turn and dynamic)
    # Backbones halve the image five times.
    width, height = (-(-side // 32) * 32 for side in rule[:2])
    graph = DetectorGraph(detector, proposals, dynamic).eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=output.parent, prefix='.export-')
    with folder as scratch:
        path = Path(scratch, output.name)
        found = None
        if format == 'ncnn':
            image = torch.from_numpy(synthetic(width, height)[:1])
            image = graph.normalized(image, torch.tensor([[height, width]]))
            pairs = formats.to_ncnn(graph.folded, image, path, log)
            if pairs:
                found = Differences(TOLERANCES['ncnn'])
            for pair in pairs:
                found.add_features(*pair)
        else:
            metadata = describe(graph, rule, source, precision)
            model = formats.to_onnx(graph, height, width, batch, OPSET)
            file = path.with_suffix('.onnx')
            formats.write(model, file, metadata)
            if precision == 'int8':
                # Two threads: more would disturb PyTorch.
                runner = runtime.Detector(file, threads=2)
                feeds = prepared(runner, calibration, log)
                model = formats.quantized(model, (feed for feed, _ in feeds))
            elif precision == 'fp16':
                model = formats.halved(model)
            formats.write(model, file, metadata)
            if format == 'openvino':
                formats.to_openvino(file, path, precision == 'fp16')
                file.unlink()
            size = sum(each.stat().st_size for each in path.parent.iterdir())
            log(
                f'{output}: opset {OPSET}, {precision}, {size / 1e6:.1f} MB, '
                f'{batch} x {"dynamic" if dynamic else f"{width}x{height}"}, '
                f'{graph.proposals} proposals, {graph.detections} detections'
            )
            if pictures is not None:
                if not (pictures := list(pictures)):
                    pictures = [*synthetic(rule.width, rule.height)]
                    log('compared on synthetic pictures; --images takes real')
                found = Differences(TOLERANCES[precision])
                compare(found, graph, model, path, pictures, log)
        if found is not None:
            log(f'largest differences: {found}')
            if not found.agree:
                for line in found.missing[:10]:
                    log(f'  {line}')
                raise UserError(
                    f'{output}: the file does not agree with {source} '
                    f'({found.allowed}); not written'
                )
        for each in Path(scratch).iterdir():
            os.replace(each, output.parent / each.name)
    return found


def resize_rule(cfg: Config) -> runtime.Resize:
    """How a config's test pipeline resizes an image.

    Raises:
        UserError: It has no ``Resize`` of one scale.
    """
    for step in get_test_pipeline_cfg(cfg):
        scale = step.get('scale')
        if step.get('type') in ('Resize', 'mmdet.Resize') and scale:
            keep_ratio = bool(step.get('keep_ratio', False))
            return runtime.Resize(*scale, keep_ratio, turn=keep_ratio)
    raise UserError(
        'test_dataloader: expected a Resize with a scale in its pipeline'
    )


def describe(
    graph: DetectorGraph, rule: runtime.Resize, source: str, precision: str
) -> dict:
    """What a runner must know, and where the file comes from."""
    detector = graph.detector
    cfg = detector.test_cfg
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
            # mmdet's pipelines give BGR.
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


def synthetic(width: int, height: int) -> np.ndarray:
    """Patches of colours, for a comparison without any picture at hand."""
    noise = np.random.default_rng(0).integers(
        0, 256, (height, width, 3), np.uint8
    )
    y, x = np.ogrid[:height, :width]
    return np.stack([noise[y // side, x // side] for side in (8, 32, 64)])


def prepared(
    runner: runtime.Detector, pictures: Iterable, log: Callable[[str], None]
) -> Iterable[tuple[dict, str]]:
    """What a file is fed for each picture, and its name."""
    usable = 0
    for picture in runtime.expand(pictures):
        try:
            one = runner.prepare(picture)
        except runtime.ImageError as error:
            log(str(error))
            continue
        usable += 1
        yield runner.feed([one]), one[2] or f'picture {usable}'
    if not usable:
        raise UserError('none of the pictures can be used')


def compare(found, graph, model, path, pictures, log) -> None:
    """Run the file, ``model`` for its features, and the original."""
    if isinstance(graph.layer, PSRoIPool):
        share = max(found.allowed.share, POOLED_SHARE)
        found.allowed = found.allowed._replace(share=share)
    threshold = graph.detector.test_cfg.rcnn.score_thr
    full = runtime.OnnxRuntime(model.SerializeToString(), threads=2)
    runner = runtime.Detector(path, threads=2)
    for feed, name in prepared(runner, pictures, log):
        features, expected = original(graph, **feed)
        found.add_features(full.run(['features'], feed)[0], features)
        outputs = runner.session.run(runtime.OUTPUTS[:3], feed)
        rows = (each[0] for each in outputs)
        found.add_detections(name, expected, *rows, threshold=threshold)
    if not found.compared:
        log('the original finds nothing here: no detection was compared')


@torch.inference_mode()
def original(
    graph: DetectorGraph, image: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, object]:
    """Features of a batch, and mmdet's own detections of its first image."""
    image, size = torch.from_numpy(image), torch.from_numpy(size)
    x = graph.normalized(image, size)
    samples = samples_of(map(tuple, size.int().tolist()))
    # In the order of the file's channels.
    features = pick(graph.detector.extract_feat(x)[0], graph.map_order, 1)
    cfg = graph.detector.rpn_head.test_cfg
    configured, cfg.max_per_img = cfg.max_per_img, graph.proposals
    try:
        results = graph.detector.predict(x, samples, rescale=False)
    finally:
        cfg.max_per_img = configured
    return features.numpy(), results[0].pred_instances.numpy()


def samples_of(sizes: Iterable[tuple[int, int]]) -> list[DetDataSample]:
    """What mmdet wants beside images of these heights and widths."""
    same = dict(scale_factor=(1.0, 1.0))
    return [
        DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, **same))
        for size in sizes
    ]


@torch.no_grad()
def seeded_detector(
    config: str | os.PathLike,
    seed: int = 0,
    classes: tuple[str, ...] = (),
    **changes,
) -> nn.Module:
    """A config's detector with random weights that finds as much as others.

    Its last layers are scaled so that scores and boxes differ from RoI to
    RoI, and suppression has work to do. ``changes`` are of the ``model``.
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
