"""Export a complete two-stage detector to one file and verify the file.

An ONNX file maps an image to a fixed number of final boxes and contains only
operators of the default domain (see :mod:`.graph`). Its JSON metadata holds
what a runner must know: classes, resize rule, channel order and thresholds.
The exported file and the original then run on the same pictures, and the file
replaces an earlier one only if they agree.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from torch import nn

from .. import __version__
from ..errors import UserError
from ..ops import PSRoIPool
from . import runtime
from .folding import pick
from .graph import DetectorGraph

SUFFIXES = dict(onnx='.onnx', openvino='.xml', ncnn='.ncnn.param')


class Tolerance(NamedTuple):
    """How much an exported file may differ from the original.

    ``features`` is relative to the largest value of the map that RoIs are
    pooled from, ``box`` is in pixels. A ``share`` of the detections may differ
    by more, because a box near a threshold may end up on its other side.
    Detections below ``least`` times their picture's best score are ignored.
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
    # ncnn computes in float16 where it can.
    ncnn=Tolerance(0.05),
)
# The minimum share for PSRoIPool, which rounds the edges of RoIs to cells.
POOLED_SHARE = 0.05
# Warn if int8 is calibrated on fewer.
FEW_PICTURES = 20


@dataclass
class Differences:
    """The largest differences between an exported file and the original.

    ``scores`` and ``boxes`` cover the detections found by both. ``missing``
    lists those of the original's ``compared`` ones that the file lacks.
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
        """Compare two maps of the same shape."""
        with np.errstate(invalid='ignore', divide='ignore'):
            error = np.abs(given - expected).max() / np.abs(expected).max()
        # Unlike `max`, this keeps NaN, which is not within any tolerance.
        self.features = float(np.maximum(self.features, error))

    def add_detections(
        self, name, expected, boxes, scores, labels, *, threshold: float
    ) -> None:
        """Match each expected detection to the closest one of its class.

        An unmatched detection does not count as missing if its score is at
        the threshold, or at the lowest score of a full list.

        ``expected`` has arrays ``bboxes`` (n, 4), ``scores`` and ``labels``
        (n,). The file's are (D, 4) and (D,), best first, padded with label -1.
        """
        rows = np.column_stack([boxes, scores])
        limits = np.array([*[self.allowed.box] * 4, self.allowed.score])
        cutoff = scores[-1] if labels[-1] >= 0 else threshold
        cutoff += min(self.allowed.score, 0.01)
        least = self.allowed.least * expected.scores.max(initial=0)
        for box, score, label in zip(
            expected.bboxes, expected.scores, expected.labels, strict=True
        ):
            if score < least:
                continue
            self.compared += 1
            errors = np.abs(rows - [*box, score])
            ratio = (errors / limits).max(1)
            best = np.where(labels == label, ratio, np.inf).argmin()
            if labels[best] == label and ratio[best] <= 1:
                self.boxes = max(self.boxes, float(errors[best, :4].max()))
                self.scores = max(self.scores, float(errors[best, 4]))
            elif not score <= cutoff:  # Either may be NaN.
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
    """Export a detector to a file and compare the two.

    Args:
        detector: The detector, with its ``cfg`` and ``dataset_meta``.
        output: The file to write, with the suffix of its format.
        source: The checkpoint's name, for metadata and messages.
        format: A key of ``SUFFIXES``. Of the options below, 'ncnn' takes only
            ``image_size`` and ``log``. Where the package ncnn is installed,
            its file is always compared, on a synthetic picture.
        precision: 'fp32', 'fp16' or 'int8'.
        calibration: Pictures for calibrating the value ranges of int8.
        image_size: Width and height to fit images into; default: the config's.
        batch: N, the number of images per call.
        dynamic: Leave height and width free, in multiples of 32.
        proposals: K; default: the config's ``test_cfg.rpn.max_per_img``.
        pictures: Pictures to compare on, synthetic ones if empty. ``None``
            skips the comparison and returns ``None``.
        log: Called with each line of the report.

    Raises:
        UserError: Part of the detector cannot be exported, or the exported
            file does not agree; an earlier file is kept.
    """
    output = Path(output)
    if not output.name.endswith(SUFFIXES[format]):
        raise UserError(
            f'{output}: expected a file name ending in {SUFFIXES[format]}'
        )
    pictures = None if pictures is None else list(pictures)
    if format == 'ncnn' and (
        precision != 'fp32' or batch > 1 or dynamic or proposals or pictures
    ):
        raise UserError(
            '--format ncnn: expected no --precision, --batch, --dynamic, '
            '--proposals or --images'
        )
    for name in 'onnx', 'onnxscript', 'onnxruntime':
        runtime.load_package(name)
    for name, value in detector.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f'{source}: NaN or infinity in {name}')
    from . import formats

    rule = resize_rule(detector.cfg)
    if image_size is not None:
        rule = rule._replace(width=image_size[0], height=image_size[1])
    graph = DetectorGraph(detector, proposals, dynamic).eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=output.parent, prefix='.export-')
    with folder as scratch:
        path = Path(scratch, output.name)
        # An input of fixed size cannot be turned.
        fixed = rule._replace(turn=rule.turn and dynamic)
        metadata = describe(graph, fixed, source, precision)
        width, height = runtime.round_up(rule[:2])
        if format == 'ncnn':
            image = torch.from_numpy(synthetic(width, height)[:1])
            found = _write_ncnn(graph, image, path, metadata['input'], log)
        else:
            model = formats.to_onnx(graph, height, width, batch)
            model = _write_model(model, path, metadata, calibration, log)
            size = sum(each.stat().st_size for each in path.parent.iterdir())
            log(
                f'{output}: opset {formats.OPSET}, {precision}, '
                f'{size / 1e6:.1f} MB, '
                f'{batch} x {"dynamic" if dynamic else f"{width}x{height}"}, '
                f'{graph.proposals} proposals, {graph.detections} detections'
            )
            found = None
            if pictures is not None:
                found = Differences(TOLERANCES[precision])
                compare(found, graph, model, path, rule, pictures, log)
        if found is not None:
            log(f'largest differences: {found}')
            if not found.agree:
                for line in found.missing[:10]:
                    log(f'  {line}')
                raise UserError(
                    f'{output}: the exported file does not agree with '
                    f'{source} within {found.allowed}; not written'
                )
        for each in Path(scratch).iterdir():
            os.replace(each, output.parent / each.name)
    return found


@torch.no_grad()
def _write_ncnn(graph, image, path, layout, log) -> Differences | None:
    """Write the network for ncnn, and compare both on a picture if possible.

    ``layout`` is the metadata's ``input``.
    """
    from . import formats

    _, height, width, _ = image.shape
    image = graph.normalized(image, torch.tensor([[height, width]]))
    formats.to_ncnn(graph.folded, image, path)
    order = 'bin by bin'
    if isinstance(graph.layer, PSRoIPool):
        order = 'value by value'
    if zeros := graph.map_order.count(-1):
        order += f', then {zeros} channels of zeros'
    log(
        f'{path.name}: in0 {layout["order"]} (3, {height}, {width}), minus '
        f'{layout["mean"]}, divided by {layout["std"]}; out0 the map that '
        f'RoIs are pooled from, {order}; out1 and out2 scores and deltas of '
        'anchors. Proposals, NMS, PSRoI pooling and the box head are not '
        'included'
    )
    try:
        outputs = formats.run_ncnn(path, image)
    except ImportError:
        log('not compared: comparing needs ncnn: pip install ncnn')
        return None
    maps = graph.detector.extract_feat(image)
    (scores,), (deltas,) = graph.detector.rpn_head(maps)
    roi_map = pick(maps[0], graph.map_order, 1)
    found = Differences(TOLERANCES['ncnn'])
    expected = roi_map.numpy(), scores.numpy(), deltas.numpy()
    for pair in zip(outputs, expected, strict=True):
        found.add_features(*pair)
    return found


def _write_model(model, path, metadata, calibration, log):
    """Convert an ONNX model to its precision and format, and write it.

    Returns the model, which unlike the file has the features as an output.
    """
    from . import formats

    precision = metadata['export']['precision']
    file = path.with_suffix('.onnx')
    if precision == 'int8':
        formats.write(model, file, metadata)
        # More threads would compete with PyTorch's.
        runner = runtime.Detector(file, threads=2)
        used = []

        def feeds():
            for feed, _, name in prepared(runner, calibration, log):
                used.append(name)
                yield feed

        model = formats.quantized(model, feeds())
        if len(used) < FEW_PICTURES:
            log(
                f'WARNING: calibrated on {len(used)} pictures; expected about '
                '100 like those in later use'
            )
    elif precision == 'fp16':
        model = formats.halved(model)
    formats.write(model, file, metadata)
    if file != path:
        formats.to_openvino(file, path, precision == 'fp16')
        file.unlink()
    return model


def resize_rule(cfg: Config) -> runtime.Resize:
    """Read the resize rule from a config's test pipeline.

    Raises:
        UserError: The pipeline has no ``Resize`` with a scale.
    """
    for step in get_test_pipeline_cfg(cfg):
        scale = step.get('scale')
        if step.get('type') in ('Resize', 'mmdet.Resize') and scale:
            keep_ratio = bool(step.get('keep_ratio', False))
            return runtime.Resize(*scale, keep_ratio, turn=keep_ratio)
    raise UserError(
        'test_dataloader: expected a Resize with a scale in the pipeline'
    )


def describe(
    graph: DetectorGraph, rule: runtime.Resize, source: str, precision: str
) -> dict:
    """Return the file's metadata: what a runner must know, and its origin."""
    from . import formats

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
            # mmdet's pipelines load BGR.
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
        export=dict(source=source, version=__version__, opset=formats.OPSET)
        | dict(precision=precision, torch=torch.__version__),
    )


def synthetic(width: int, height: int) -> np.ndarray:
    """Generate three pictures of coloured squares, (3, H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(
        0, 256, (height, width, 3), np.uint8
    )
    y, x = np.ogrid[:height, :width]
    return np.stack([noise[y // side, x // side] for side in (8, 32, 64)])


def prepared(
    runner: runtime.Detector, pictures: Iterable, log: Callable[[str], None]
) -> Iterable[tuple[dict, tuple[int, int], str]]:
    """Yield the inputs, (width, height) and name of each usable picture."""
    usable = 0
    for picture in runtime.expand(pictures):
        try:
            one = runner.prepare(picture)
        except runtime.ImageError as error:
            log(str(error))
            continue
        usable += 1
        yield runner.feed([one]), one[1], one[2] or f'picture {usable}'
    if not usable:
        raise UserError('pictures: expected at least one usable, got none')


def compare(found, graph, model, path, rule, pictures, log) -> None:
    """Compare the file, and the features of ``model``, with the original.

    ``rule`` is how the original resizes images, which may turn its canvas.
    """
    if not pictures:
        pictures = [*synthetic(rule.width, rule.height)]
        log('comparing on synthetic pictures; --images takes real ones')
    if isinstance(graph.layer, PSRoIPool):
        share = max(found.allowed.share, POOLED_SHARE)
        found.allowed = found.allowed._replace(share=share)
    threshold = graph.detector.test_cfg.rcnn.score_thr
    full = runtime.OnnxRuntime(model.SerializeToString(), threads=2)
    runner = runtime.Detector(path, threads=2)
    total = unlike = 0
    step = graph.detector.data_preprocessor.pad_size_divisor
    for feed, size, name in prepared(runner, pictures, log):
        canvas = runtime.round_up(rule.target(*size)[::-1], step)
        total += 1
        unlike += feed['image'].shape[1:3] != canvas
        features, expected = original(graph, **feed)
        found.add_features(full.run(['features'], feed)[0], features)
        outputs = runner.session.run(runtime.OUTPUTS[:3], feed)
        rows = (each[0] for each in outputs)
        found.add_detections(name, expected, *rows, threshold=threshold)
    if unlike:
        log(
            f'WARNING: {unlike} of {total} pictures get another size or '
            'padding than in the checkpoint, which changes their scores (here '
            "both were compared at the file's); --dynamic keeps the size"
        )
    if not found.compared:
        log('WARNING: the original found nothing: no detection was compared')


@torch.inference_mode()
def original(
    graph: DetectorGraph, image: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, object]:
    """Features of a batch, and mmdet's own detections of its first image."""
    image, size = torch.from_numpy(image), torch.from_numpy(size)
    x = graph.normalized(image, size)
    samples = samples_of(map(tuple, size.int().tolist()))
    # Put the channels in the file's order.
    features = pick(graph.detector.extract_feat(x)[0], graph.map_order, 1)
    cfg = graph.detector.rpn_head.test_cfg
    configured, cfg.max_per_img = cfg.max_per_img, graph.proposals
    try:
        results = graph.detector.predict(x, samples, rescale=False)
    finally:
        cfg.max_per_img = configured
    return features.numpy(), results[0].pred_instances.numpy()


def samples_of(sizes: Iterable[tuple[int, int]]) -> list[DetDataSample]:
    """mmdet's data samples for unscaled images of these (height, width)."""
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    rest = dict(scale_factor=(1.0, 1.0), img_id=0)
    rest |= dict(flip=False, flip_direction=None)
    return [
        DetDataSample(metainfo=dict.fromkeys(shapes, size) | rest)
        for size in sizes
    ]
