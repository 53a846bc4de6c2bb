"""Write a whole two-stage detector into one ONNX file, and prove it.

The file has standard operators of the default domain only, image in and
final boxes out, at a fixed number of rows (see :mod:`.graph`). What a runner
must know (classes, resize rule, input order, thresholds) is in its metadata,
as JSON. After writing, the file and the original run on the same pictures;
only a file that agrees takes the place of an earlier one.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from ..errors import UserError
from ..ops import PSRoIPool
from . import runtime
from .detector import load_checkpoint
from .graph import DetectorGraph
from .runtime import Resize

OPSET = 18
# Backbones halve the image five times.
DIVISOR = 32
# Of float32: what other orders of the same sums may do.
FEATURE_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.5
# A box on the edge of a threshold may fall to its other side; where PSRoIPool
# rounds RoIs to cells, so may the edges of a RoI.
SHARE_TOLERANCE, POOLED_TOLERANCE = 0.02, 0.05


@dataclass
class Differences:
    """The largest differences between a file and its original.

    Attributes:
        features: Of the map that RoIs read, relative to its largest value.
        scores, boxes: Of detections that both have; boxes in pixels.
        compared: Detections of the original.
        missing: Those of them that the file does not have.
        share: Of the compared, how many may be missing.
    """

    features: float = 0.0
    scores: float = 0.0
    boxes: float = 0.0
    compared: int = 0
    missing: list[str] = field(default_factory=list)
    share: float = SHARE_TOLERANCE

    @property
    def agree(self) -> bool:
        allowed = self.share * self.compared
        return (
            self.features <= FEATURE_TOLERANCE and len(self.missing) <= allowed
        )

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
    image_size: tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: bool = False,
    proposals: int | None = None,
    pictures: Iterable = (),
    log: Callable[[str], None] = print,
) -> Differences:
    """Write a checkpoint's detector to an ONNX file.

    Args:
        checkpoint: What training wrote.
        output: The ``.onnx`` file.
        config: The config file; by default what the checkpoint says.
        image_size: Width and height that images are made to fit into; the
            config's test size by default.
        batch: N, images of one call.
        dynamic: Leave height and width free, in multiples of 32.
        proposals: K; the config's ``test_cfg.rpn.max_per_img`` by default.
        pictures: What to compare the two on; see :func:`runtime.expand`.
        log: Called with each line of the report.

    Returns:
        The differences that were found.

    Raises:
        UserError: The detector has a part that is not exported here, or the
            file disagrees; an earlier file stays as it was.
    """
    output = Path(output)
    if output.suffix != '.onnx':
        raise UserError(f'{output}: expected a name that ends in .onnx')
    detector = load_checkpoint(checkpoint, config)
    rule = resize_rule(detector.cfg)
    if image_size is not None:
        rule = rule._replace(width=image_size[0], height=image_size[1])
    # A canvas of a fixed size cannot be turned.
    rule = rule._replace(turn=rule.turn and dynamic)
    size = 'dynamic' if dynamic else '{1}x{0}'.format(*canvas(rule))
    graph = DetectorGraph(detector, proposals, dynamic).eval()
    content = to_onnx(graph, rule, batch)
    metadata = describe(graph, rule, Path(checkpoint).name)
    scratch = output.with_name(f'.{output.name}.{os.getpid()}')
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(content, scratch, metadata)
        log(
            f'{output}: opset {OPSET}, {scratch.stat().st_size / 1e6:.1f} MB, '
            f'{batch} x {size}, {graph.proposals} proposals, '
            f'{graph.detections} detections'
        )
        found = compare(graph, content, scratch, list(pictures), log)
        log(f'largest differences: {found}')
        if not found.agree:
            for line in found.missing[:10]:
                log(f'  {line}')
            raise UserError(
                f'{output}: the file does not agree with {checkpoint} '
                f'(allowed: features {FEATURE_TOLERANCE:.0e}, '
                f'{found.share:.0%} of the detections); not written'
            )
        os.replace(scratch, output)
    finally:
        scratch.unlink(missing_ok=True)
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
        'the config: expected a Resize with a scale in the pipeline of '
        'test_dataloader'
    )


def canvas(rule: Resize) -> tuple[int, int]:
    """Height and width of the input: the rule's, in multiples of 32."""
    height, width = (
        -(-side // DIVISOR) * DIVISOR for side in (rule.height, rule.width)
    )
    return height, width


def to_onnx(graph: DetectorGraph, rule: Resize, batch: int):
    """The graph as an ``onnx.ModelProto``, with the features as an output.

    Raises:
        UserError: The exporter's packages are missing or too old.
    """
    try:
        import onnxscript  # noqa: F401
        from torch.onnx import export as torch_export
    except ImportError as error:
        raise UserError(
            f'export needs {error.name}: pip install '
            '"mmdet_shufflenetv2[export]"'
        ) from error
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
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch_export(
            graph,
            (image, size),
            dynamo=True,
            opset_version=OPSET,
            input_names=['image', 'size'],
            output_names=[*runtime.OUTPUTS, 'features'],
            dynamic_shapes=shapes,
            custom_translation_table={
                torch.ops.mmdet_shufflenetv2.nms_mask.default: _nms_mask
            },
            verbose=False,
        )
    return program.model_proto


def _nms_mask(boxes, scores, iou_threshold: float, most: int):
    """:func:`.graph.nms_mask` in ONNX's operators."""
    from onnxscript import opset18 as op

    picked = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[most]),
        op.Constant(value_floats=[iou_threshold]),
        # Padding has a score of -1.
        op.Constant(value_floats=[-0.5]),
    )
    # (image, class, box) of each survivor.
    place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
    number = op.Shape(picked, start=0, end=1)
    return op.ScatterND(
        op.Mul(scores, op.Constant(value_float=0.0)),
        place,
        op.Expand(op.Constant(value_floats=[1.0]), number),
    )


def describe(graph: DetectorGraph, rule: Resize, source: str) -> dict:
    """What a runner must know, and where the file comes from."""
    from .. import __version__

    detector = graph.detector
    preprocessor, cfg = detector.data_preprocessor, detector.test_cfg
    # mmdet's pipelines give BGR.
    is_rgb = preprocessor._channel_conversion
    mean, std = -graph.shift / graph.scale, 1 / graph.scale
    return dict(
        classes=list(detector.dataset_meta['classes']),
        input=dict(
            layout='N x H x W x 3, uint8; padding on the right and below',
            order='RGB' if is_rgb else 'BGR',
            mean=[round(value, 4) for value in mean.flatten().tolist()],
            std=[round(value, 4) for value in std.flatten().tolist()],
        ),
        resize=rule._asdict(),
        thresholds=dict(
            score=cfg.rcnn.score_thr,
            nms=cfg.rcnn.nms.iou_threshold,
            proposal_nms=cfg.rpn.nms.iou_threshold,
            proposals=graph.proposals,
            detections=graph.detections,
        ),
        export=dict(
            source=source,
            version=__version__,
            opset=OPSET,
            torch=torch.__version__,
        ),
    )


def write(content, path: Path, metadata: dict) -> None:
    """Write the model without the output that only a comparison reads."""
    import onnx

    content = onnx.ModelProto.FromString(content.SerializeToString())
    del content.graph.output[len(runtime.OUTPUTS) :]
    # Names of source files and lines of the machine that exported.
    del content.metadata_props[:]
    for node in content.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    content.producer_name = 'mmdet_shufflenetv2'
    content.producer_version = metadata['export']['version']
    for key, value in metadata.items():
        content.metadata_props.add(key=key, value=json.dumps(value))
    content.metadata_props.add(key='format', value=runtime.FORMAT)
    onnx.checker.check_model(content)
    path.write_bytes(content.SerializeToString())


def compare(
    graph: DetectorGraph,
    content,
    path: Path,
    pictures: list,
    log: Callable[[str], None] = print,
) -> Differences:
    """Run file and original on pictures.

    Args:
        graph: The exported graph, whose detector is the original.
        content: The model with the features as an output.
        path: The written file.
        pictures: What a runner takes; synthetic ones if empty.
        log: Told about pictures that cannot be used.

    Raises:
        UserError: No picture can be used.
    """
    import onnxruntime

    # Two threads are enough, and idle ones of a pool would disturb PyTorch.
    runner = runtime.Detector(path, threads=2)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    full = onnxruntime.InferenceSession(
        content.SerializeToString(),
        options,
        providers=['CPUExecutionProvider'],
    )
    if not pictures:
        pictures = synthetic(*runner._resize[:2])
        log('compared on synthetic pictures; --images takes real ones')
    (layer,) = graph.detector.roi_head.bbox_roi_extractor.roi_layers
    found = Differences()
    if isinstance(layer, PSRoIPool):
        found.share = POOLED_TOLERANCE
    usable = 0
    for picture in runtime.expand(pictures):
        try:
            prepared = runner._prepare(picture)
        except runtime.ImageError as error:
            log(str(error))
            continue
        usable += 1
        image, size = runner._padded([prepared])
        name = prepared[2] or f'picture {usable}'
        features, expected = original(graph, image, size)
        given = full.run(['features'], dict(image=image, size=size))[0]
        difference = np.abs(given - features).max() / np.abs(features).max()
        found.features = max(found.features, float(difference))
        boxes, scores, labels, count = (
            each[0] for each in runner._run(image, size)
        )
        match(found, name, expected, boxes[:count], scores, labels)
    if not usable:
        raise UserError('none of the pictures to compare on can be used')
    return found


def synthetic(width: int, height: int) -> list[np.ndarray]:
    """Patches of colours, for a comparison without any picture at hand."""
    generator = np.random.default_rng(0)
    pictures = []
    for side in 8, 32, 64:
        shape = -(-height // side), -(-width // side), 3
        patches = generator.integers(0, 256, shape, dtype=np.uint8)
        pictures.append(patches.repeat(side, 0).repeat(side, 1))
    return pictures


@torch.inference_mode()
def original(
    graph: DetectorGraph, image: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, object]:
    """Features of a batch, and mmdet's own detections of its first image."""
    image, size = torch.from_numpy(image), torch.from_numpy(size)
    x = graph.normalized(image, size)
    samples = [
        DetDataSample(
            metainfo=dict(
                img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)
            )
        )
        for shape in map(tuple, size.int().tolist())
    ]
    features = graph.detector.extract_feat(x)[0]
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
    last = scores.min(initial=np.inf) + SCORE_TOLERANCE
    for box, score, label in zip(
        expected.bboxes, expected.scores, expected.labels, strict=True
    ):
        found.compared += 1
        same = np.flatnonzero(labels == label)
        box_off = np.abs(boxes[same] - box).max(1, initial=0)
        score_off = np.abs(scores[same] - score)
        off = np.maximum(box_off / BOX_TOLERANCE, score_off / SCORE_TOLERANCE)
        best = off.argmin() if len(same) else None
        if best is not None and off[best] <= 1:
            found.boxes = max(found.boxes, float(box_off[best]))
            found.scores = max(found.scores, float(score_off[best]))
        elif score > last:
            found.missing.append(
                f'{name}: class {label}, score {score:.3f}, box '
                f'{np.round(box, 1).tolist()}'
            )
