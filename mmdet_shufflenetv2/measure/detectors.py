"""Speed of two-stage detectors with different backbones, by part: Table 7.

Weights are random and seeded. The cost of post-processing depends on values,
so its inputs do not come from the random network: seeded scores and boxes of
the same shapes replace them. All networks thus have the same proposals, RoIs
and detections. Networks are compared by the part `network`; post-processing is
measured once unless configs are named.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from itertools import cycle, product
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..deploy.export import samples_of
from ..engine.run_config import (
    dicts_of,
    find_config,
    load_config,
    packaged_config,
    without_pretrained,
)
from ..errors import UserError
from .benchmark import (
    COUNTS,
    ENERGY,
    SIZE,
    Benchmark,
    Row,
    Time,
    joined,
    size_text,
)
from .networks import maps_in_turn, place, settle_norms
from .published import columns
from .setting import Setting
from .speed import SPEEDS, speed
from .timing import Effort

HELP = 'Table 7: images/s and memory of Light-Head R-CNN, part by part'
EXAMPLE = '--size 600x400 --batch 1 --part network "end to end"'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=5, max_runs=50, seconds=6, warmup_seconds=4)
COLUMNS = ('config', 'column', 'part', 'input', 'batch', *SPEEDS)
PAPER_SIZE, PAPER_BATCH = (1200, 800), 4
# On a CPU, 22 configs at the paper's size would take all night.
CPU_SIZE = (600, 400)
# Suffix of configs with the recipe for custom data.
OWN_DATA = '_custom'

# Most COCO images have this size.
JPEG_SIZE, JPEGS = (640, 427), 8
# Boxes per image that pass the score threshold (about one per proposal, as
# with a trained network), and ground truth boxes per image.
CANDIDATES, OBJECTS = 1000, 8
# Standard deviations of synthetic values: class logits, and the four box
# deltas of proposals and of RoIs.
LOGIT_STD, PROPOSAL_STD, ROI_STD = 2.0, 0.1, 1.0


def column_of(stem: str) -> str:
    """The column of Table 7 that lists a config, or ''."""
    table = columns('Table 7').items()
    return next((column for column, stems in table if stem in stems), '')


def reference_of(stem: str) -> str:
    """The ShuffleNet V2 config that a config is compared with.

    The reference of a config for custom data is also one for custom data.
    """
    reference, *_ = columns('Table 7')[column_of(stem) or '140M']
    return reference + OWN_DATA * stem.endswith(OWN_DATA)


def default_configs() -> list[Path]:
    """All Light-Head configs except those for custom data."""
    found = sorted(config_path(reference_of('')).parent.glob('lighthead_*.py'))
    return [path for path in found if not path.stem.endswith(OWN_DATA)]


def config_path(stem: str) -> Path:
    """The path of a config of this package."""
    return packaged_config(f'mmdet_shufflenetv2::{stem}.py')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select detectors, parts and their input."""
    add = parser.add_argument
    text = 'default: configs/lighthead_*.py except *_custom.py'
    add('configs', nargs='*', metavar='CONFIG', help=text)
    paper, cpu = size_text(PAPER_SIZE), size_text(CPU_SIZE)
    text = f"resized images; default: {cpu} on a CPU, else the paper's {paper}"
    add('--size', **SIZE, help=text)
    text = f'default: {PAPER_BATCH}, as in the paper'
    add('--batch', **COUNTS, default=[PAPER_BATCH], help=text)
    parts = list(PARTS)
    add('--part', nargs='+', choices=parts, default=parts, help='default: all')
    text = 'measure joules on a GPU that counts them, a second per part'
    add('--energy', **ENERGY, help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each part of each detector, the most informative part first.

    Raises:
        UserError: a config does not exist or cannot be read.
    """

    def position(path: Path) -> tuple[int, bool]:
        # Go column by column, so that each reference is built once.
        column = [*columns('Table 7'), ''].index(column_of(path.stem))
        return column, path.stem != reference_of(path.stem)

    paths = [find_config(text) for text in args.configs]
    paths = sorted(paths or default_configs(), key=position)
    by_part = dict.fromkeys(PARTS, paths)
    if not args.configs:
        # They all share it.
        by_part['post-processing'] = paths[:1]
    found = []
    for setting, batch, part in product(settings, args.batch, by_part):
        size = args.size or (PAPER_SIZE if setting.on_gpu else CPU_SIZE)
        for path in by_part[part] if part in args.part else ():
            key = {
                'config': path.stem,
                'column': column_of(path.stem),
                'part': part,
                'input': size_text(size),
                'batch': batch,
            }
            where = path, size, batch, setting, part, args.energy
            found.append(Benchmark(key, setting, partial(_measure, *where)))
    return found


def _measure(
    path: Path,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    part: str,
    energy: bool,
    time: Time,
) -> list[Row]:
    reference = config_path(reference_of(path.stem))
    if path.resolve() == reference.resolve():
        reference = path

    def build(each: Path) -> tuple[nn.Module, Callable[[], object]]:
        detector = _detector(each, size, batch, setting)
        return detector.model, PARTS[part](detector)

    row = speed(time, build, path, reference, batch, setting, energy)
    if part not in ('network', 'training step'):
        warning = _detector(path, size, batch, setting).warning
        row['warning'] = joined(warning, row['warning'])
    return [row]


# Two entries, so that the reference of a column stays cached.
@lru_cache(maxsize=2)
def _detector(path: Path, *where) -> 'TimedDetector':
    return TimedDetector(load_config(str(path)), *where)


class TimedDetector:
    """A detector with random weights, and batches for it.

    Args:
        cfg: config of a two-stage detector; changed in place.
        size: width and height that images are resized to.
        batch: images per batch.
        setting: 16-bit precisions run under autocast, as in training.

    Attributes:
        warning: says so if the score threshold is 0, so that post-processing
            gets all boxes instead of `CANDIDATES` per image; otherwise empty.

    Raises:
        UserError: the detector has no RPN or an unsupported RoI head.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, setting: Setting
    ):
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        # Speed does not depend on the weights.
        without_pretrained(cfg)
        self.cfg, self.size, self.batch = cfg, size, batch
        device, dtype = torch.device(setting.device).type, setting.dtype
        half = dtype != torch.float32
        self.autocast = torch.autocast(device, dtype, enabled=half)
        self.setting, fp32 = setting, replace(setting, precision='fp32')
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        head = getattr(getattr(model, 'roi_head', None), 'bbox_head', None)
        if not (hasattr(model, 'rpn_head') and hasattr(head, 'fc_cls')):
            raise UserError(
                'config: expected a detector with an RPN and a fully '
                f'connected RoI classifier, got {cfg.model.type} '
                f'({cfg.filename})'
            )
        model.init_weights()
        self.model = place(model, fp32)
        images = torch.randn(8, 3, 64, 64, device=setting.device)
        settle_norms(model, images, model.extract_feat)
        model.eval()
        step = model.data_preprocessor.pad_size_divisor
        width, height = (-(-side // step) * step for side in size)
        self.inputs = maps_in_turn((batch, 3, height, width), fp32)
        self.samples = [
            each.to(setting.device)
            for each in make_samples(size, (height, width), batch)
        ]
        threshold = model.roi_head.test_cfg.score_thr
        self.warning = '' if threshold > 0 else 'all boxes pass score_thr=0'
        self._feed_synthetic_values(threshold)

    def _feed_synthetic_values(self, threshold: float) -> None:
        """Feed post-processing the same values for every network."""
        rpn, box_head = self.model.rpn_head, self.model.roi_head.bbox_head
        propose, detect = rpn.predict_by_feat, box_head.predict_by_feat

        def propose_synthetic(cls_scores, bbox_preds, *args, **kwargs):
            scores = [seeded(each, LOGIT_STD) for each in cls_scores]
            deltas = [seeded(each, PROPOSAL_STD) for each in bbox_preds]
            return propose(scores, deltas, *args, **kwargs)

        def detect_synthetic(rois, cls_scores, bbox_preds, *args, **kwargs):
            # `cls_scores` has one tensor per image.
            scores = [
                seeded(each, LOGIT_STD, threshold) for each in cls_scores
            ]
            deltas = [seeded(each, ROI_STD) for each in bbox_preds]
            return detect(rois, scores, deltas, *args, **kwargs)

        rpn.predict_by_feat = propose_synthetic
        box_head.predict_by_feat = detect_synthetic

    def _as_used(self, function: Callable) -> Callable:
        """Wrap a function in inference mode and autocast."""
        return torch.inference_mode()(self.autocast(function))

    def _forward(self, images: Tensor, rois: Tensor | None = None) -> tuple:
        """Run all layers; return RPN outputs, RoIs and RoI outputs."""
        model = self.model
        features = model.extract_feat(images)
        rpn = model.rpn_head(features)
        if rois is None:
            rois = bbox2roi([p.bboxes for p in self._propose(rpn)])
        return rpn, rois, model.roi_head._bbox_forward(features, rois)

    def _propose(self, rpn: tuple) -> list[InstanceData]:
        return self.model.rpn_head.predict_by_feat(
            *rpn,
            batch_img_metas=[s.metainfo for s in self.samples],
            cfg=self.model.test_cfg.rpn,
        )

    def _network(self) -> Callable[[], object]:
        """All layers with weights, on fixed RoIs."""
        run = self._as_used(self._forward)
        _, rois, _ = run(self.inputs())
        return lambda: run(self.inputs(), rois)

    def _post_processing(self) -> Callable[[], object]:
        """From scores to proposals, and from scores to detections."""
        head = self.model.roi_head
        rpn, rois, outputs = self._as_used(self._forward)(self.inputs())
        counts = rois[:, 0].long().bincount(minlength=self.batch).tolist()
        metas = [s.metainfo for s in self.samples]
        parts = [
            tensor.split(counts)
            for tensor in (rois, outputs['cls_score'], outputs['bbox_pred'])
        ]

        def run() -> object:
            self._propose(rpn)
            return head.bbox_head.predict_by_feat(*parts, metas, head.test_cfg)

        return self._as_used(run)

    def _detection(self) -> Callable[[], object]:
        """From a batch in memory to detections."""
        predict = self._as_used(self.model.predict)
        return lambda: predict(self.inputs(), self.samples, rescale=False)

    def _end_to_end(self) -> Callable[[], object]:
        """From JPEG files to detections in the host's memory."""
        steps = copy.deepcopy(self.cfg.test_dataloader.dataset.pipeline)
        steps = [step for step in steps if step['type'] != 'LoadAnnotations']
        for node in dicts_of(steps):
            if 'Resize' in node.get('type', ''):
                node['scale'] = self.size
        load = Compose([TRANSFORMS.build(step) for step in steps])
        # The folder lives as long as this object, which `run` refers to.
        self.folder = TemporaryDirectory()
        files = cycle(write_jpegs(Path(self.folder.name)))

        def run() -> object:
            loaded = [
                load(dict(img_path=str(next(files)), img_id=0))
                for _ in range(self.batch)
            ]
            data = {
                key: [image[key] for image in loaded]
                for key in ('inputs', 'data_samples')
            }
            return [result.cpu() for result in self.model.test_step(data)]

        return self._as_used(run)

    def _training_step(self) -> Callable[[], object]:
        """Losses, gradients, and an SGD step with a learning rate of 0.

        Trains a copy, because training updates the statistics of batch norms,
        which the other parts must not see.
        """
        model = copy.deepcopy(self.model).train()
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(weights, lr=0.0, momentum=0.9)
        is_half = self.setting.dtype == torch.float16
        scaler = torch.amp.GradScaler(enabled=is_half)

        def run() -> None:
            with self.autocast:
                losses = model.loss(self.inputs(), self.samples)
                total, _ = model.parse_losses(losses)
            scaler.scale(total).backward()
            scaler.step(optimizer)
            scaler.update()
            # Free the gradients: they count as memory of this step.
            optimizer.zero_grad()

        return run


# The most informative part comes first.
PARTS = {
    'network': TimedDetector._network,
    'post-processing': TimedDetector._post_processing,
    'detection': TimedDetector._detection,
    'end to end': TimedDetector._end_to_end,
    'training step': TimedDetector._training_step,
}


def seeded(like: Tensor, std: float, threshold: float = 0.0) -> Tensor:
    """Seeded normally distributed values of a tensor's shape and type.

    With a threshold, they are logits (K, classes + 1) with the background
    last, and `CANDIDATES` pairs of box and class (or as many as possible)
    have a probability above the threshold.
    """
    return _seeded(like.shape, like.dtype, like.device, std, threshold)


@cache
@torch.inference_mode(False)
def _seeded(shape: torch.Size, dtype, device, std, threshold) -> Tensor:
    values = std * torch.randn(
        shape, generator=torch.Generator().manual_seed(0)
    )
    if threshold > 0:
        shares = values.exp()
        classes, background = shares[:, :-1], shares[:, -1:]
        # A pair passes if exp(background) is scaled by less than its limit.
        limits = classes / threshold - classes.sum(1, keepdim=True)
        limits = (limits / background).flatten()
        if len(limits) > CANDIDATES:
            factor = limits.sort(descending=True).values[CANDIDATES]
            values[:, -1] += factor.clamp(min=1e-20).log()
    return values.to(device, dtype)


def make_samples(
    size: tuple[int, int], padded: tuple[int, int], batch: int
) -> list[DetDataSample]:
    """Make the data samples of a batch: sizes, and `OBJECTS` boxes in each.

    ``size`` is (width, height) of the images, ``padded`` is (height, width)
    of the batch.
    """
    generator = torch.Generator().manual_seed(0)
    corners, sides = torch.rand(2, batch, OBJECTS, 2, generator=generator)
    low, high = 0.6 * corners, 0.6 * corners + 0.05 + 0.35 * sides
    boxes = torch.cat([low, high], 2) * torch.tensor(size * 2)
    samples = samples_of([size[::-1]] * batch)
    labels = torch.arange(OBJECTS) % 2
    for sample, each in zip(samples, boxes, strict=True):
        sample.set_metainfo(dict(pad_shape=padded, batch_input_shape=padded))
        sample.gt_instances = InstanceData(bboxes=each, labels=labels)
    return samples


def write_jpegs(folder: Path) -> list[Path]:
    """Write `JPEGS` images of smooth noise, of `JPEG_SIZE`."""
    generator = np.random.default_rng(0)
    width, height = JPEG_SIZE
    paths = [folder / f'{index}.jpg' for index in range(JPEGS)]
    for path in paths:
        shape = (height // 5, width // 5, 3)
        coarse = generator.integers(0, 256, shape, np.uint8)
        image = cv2.resize(coarse, JPEG_SIZE, interpolation=cv2.INTER_CUBIC)
        if not cv2.imwrite(str(path), image):
            raise OSError(f'cannot write {path}')
    return paths
