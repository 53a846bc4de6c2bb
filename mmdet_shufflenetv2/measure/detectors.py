"""Two-stage detectors over every backbone, part by part: Table 7.

Weights are random and seeded. What post-processing has to do depends on
values, so it is not left to the random network: where its outputs enter
post-processing, seeded scores and boxes of the same shapes take their place.
They are the same for every network, and so are the proposals, the RoIs and
the detections. Networks are compared by the part `network`; post-processing
is measured once for detectors that share it.
"""

import argparse
import copy
import re
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
# On a CPU, where 22 configs at the full size would take a night.
CPU_SIZE = (600, 400)
# How configs with the recipe for one's own data end.
OWN_DATA = '_custom'

# Files of the size most COCO pictures have.
JPEG_SIZE, JPEGS = (640, 427), 8
# Boxes per image that pass the score threshold, about one per proposal, as
# after a trained network; and boxes of the ground truth.
CANDIDATES, OBJECTS = 1000, 8
# Spread of synthetic values: of a class's logit, and of a box's four deltas
# in a proposal's units and in a RoI's.
LOGIT_STD, PROPOSAL_STD, ROI_STD = 2.0, 0.1, 1.0


def column_of(stem: str) -> str:
    """The column of Table 7 that a config is in; empty if in none."""
    table = columns('Table 7').items()
    return next((column for column, stems in table if stem in stems), '')


def reference_of(stem: str) -> str:
    """The config that a config is compared with: ShuffleNet V2's.

    Of a config for one's own data it is such a one, too.
    """
    reference, *_ = columns('Table 7')[column_of(stem) or '140M']
    return reference + OWN_DATA * stem.endswith(OWN_DATA)


def default_configs() -> list[Path]:
    """Every Light-Head config but the recipes for one's own data."""
    found = sorted(_own(reference_of('')).parent.glob('lighthead_*.py'))
    return [path for path in found if not path.stem.endswith(OWN_DATA)]


def _own(stem: str) -> Path:
    return packaged_config(f'mmdet_shufflenetv2::{stem}.py')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which detectors and parts to measure, and on what."""
    add = parser.add_argument
    text = 'default: configs/lighthead_*.py'
    add('configs', nargs='*', metavar='CONFIG', help=text)
    paper, cpu = size_text(PAPER_SIZE), size_text(CPU_SIZE)
    text = f"of the resized image; default: the paper's, {paper}, on a CPU "
    add('--size', **SIZE, help=text + cpu)
    text = f"default: the paper's, {PAPER_BATCH}"
    add('--batch', **COUNTS, default=[PAPER_BATCH], help=text)
    parts = list(PARTS)
    add('--part', nargs='+', choices=parts, default=parts, help='default: all')
    text = 'a second per part on a GPU that counts it'
    add('--energy', **ENERGY, help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each part of each detector, the telling part first.

    Raises:
        UserError: a config is absent or broken.
    """

    def position(path: Path) -> tuple[int, bool]:
        # Columns after each other, so that a reference is built once.
        column = [*columns('Table 7'), ''].index(column_of(path.stem))
        return column, path.stem != reference_of(path.stem)

    paths = [find_config(text) for text in args.configs]
    paths = sorted(paths or default_configs(), key=position)
    by_part = dict.fromkeys(PARTS, paths)
    # The first of those that share it.
    firsts = {_post_processing(path): path for path in reversed(paths)}
    by_part['post-processing'] = [p for p in paths if p in firsts.values()]
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


@cache
def _post_processing(path: Path) -> str:
    """All in a config that post-processing depends on, and maybe more."""
    model = load_config(str(path)).model
    roi_head = model.get('roi_head') or {}
    heads = [model.get('rpn_head'), roi_head.get('bbox_head')]
    # What comes before a head, and what only training reads.
    other = re.compile('.*_channels|(loss|ohem)_.*')
    for head in dicts_of(heads):
        for name in filter(other.fullmatch, list(head)):
            del head[name]
    return repr((heads, model.get('test_cfg')))


def _measure(
    path: Path,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    part: str,
    energy: bool,
    time: Time,
) -> list[Row]:
    reference = _own(reference_of(path.stem))
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


# A reference stays, for it is everybody's in its column.
@lru_cache(maxsize=2)
def _detector(path: Path, *where) -> 'Detector':
    return Detector(load_config(str(path)), *where)


class Detector:
    """A detector with random weights, and batches for it.

    Args:
        cfg: config of a two-stage detector; changed in place.
        size: width and height that images are resized to.
        batch: images per batch.
        setting: 16 bits run under autocast, as in training.

    Attributes:
        warning: why post-processing has not `CANDIDATES` boxes per image to
            handle, if so.

    Raises:
        UserError: the detector has no RPN or another kind of RoI head.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, setting: Setting
    ):
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        # Speed does not depend on where weights come from.
        without_pretrained(cfg)
        self.cfg, self.size, self.batch = cfg, size, batch
        device, dtype = torch.device(setting.device).type, setting.dtype
        half = dtype != torch.float32
        self.autocast = torch.autocast(device, dtype, enabled=half)
        self.setting, wide = setting, replace(setting, precision='fp32')
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
        self.model = place(model, wide)
        images = torch.randn(8, 3, 64, 64, device=setting.device)
        settle_norms(model, images, model.extract_feat)
        model.eval()
        step = model.data_preprocessor.pad_size_divisor
        width, height = (-(-side // step) * step for side in size)
        self.inputs = maps_in_turn((batch, 3, height, width), wide)
        self.samples = [
            each.to(setting.device)
            for each in make_samples(size, (height, width), batch)
        ]
        self.warning = self._feed_synthetic_values()

    def _feed_synthetic_values(self) -> str:
        """Give post-processing the same to do after every network."""
        rpn, box_head = self.model.rpn_head, self.model.roi_head.bbox_head
        propose, detect = rpn.predict_by_feat, box_head.predict_by_feat
        threshold = self.model.roi_head.test_cfg.score_thr

        def propose_synthetic(cls_scores, bbox_preds, *args, **kwargs):
            scores = [seeded(each, LOGIT_STD) for each in cls_scores]
            deltas = [seeded(each, PROPOSAL_STD) for each in bbox_preds]
            return propose(scores, deltas, *args, **kwargs)

        def detect_synthetic(rois, cls_scores, bbox_preds, *args, **kwargs):
            # Those of one image.
            scores = [
                seeded(each, LOGIT_STD, threshold) for each in cls_scores
            ]
            deltas = [seeded(each, ROI_STD) for each in bbox_preds]
            return detect(rois, scores, deltas, *args, **kwargs)

        rpn.predict_by_feat = propose_synthetic
        box_head.predict_by_feat = detect_synthetic
        _, rois, outputs = self._as_used(self._forward)(self.inputs())
        first = outputs['cls_score'][rois[:, 0] == 0]
        scores = seeded(first, LOGIT_STD, threshold).float().softmax(1)
        found = (scores[:, :-1] > threshold).sum().item()
        if abs(found / CANDIDATES - 1) < 0.05:
            return ''
        return (
            f'{found} boxes per image pass score_thr={threshold}, not '
            f'{CANDIDATES}'
        )

    def _as_used(self, function: Callable) -> Callable:
        """Without gradients, and 16 bits under autocast."""
        return torch.inference_mode()(self.autocast(function))

    def _forward(self, images: Tensor, rois: Tensor | None = None) -> tuple:
        """Everything with weights: RPN outputs, RoIs, and RoI outputs."""
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
        """Everything with weights, on RoIs that stay the same."""
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
        # It is removed with this object, which the function holds.
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
        """Losses, gradients, and a step of SGD that moves nothing.

        It is a copy that trains: batch norms follow the images they see, and
        the other parts are those of a detector that never did.
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
            # Gradients are memory of this step, not of the next one.
            optimizer.zero_grad()

        return run


# The telling one first.
PARTS = {
    'network': Detector._network,
    'post-processing': Detector._post_processing,
    'detection': Detector._detection,
    'end to end': Detector._end_to_end,
    'training step': Detector._training_step,
}


def seeded(like: Tensor, std: float, threshold: float = 0.0) -> Tensor:
    """Seeded normally distributed values, of a tensor's shape and type.

    With a threshold they are logits (K, classes + 1), the background last,
    whose probabilities are above it for `CANDIDATES` boxes and classes, or
    as many as can be.
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
        # One passes while the background is multiplied by less than this.
        limits = classes / threshold - classes.sum(1, keepdim=True)
        limits = (limits / background).flatten()
        if len(limits) > CANDIDATES:
            factor = limits.sort(descending=True).values[CANDIDATES]
            values[:, -1] += factor.clamp(min=1e-20).log()
    return values.to(device, dtype)


def make_samples(
    size: tuple[int, int], padded: tuple[int, int], batch: int
) -> list[DetDataSample]:
    """What goes with a batch of images: sizes, and `OBJECTS` boxes in each.

    ``size`` is width and height of an image, ``padded`` height and width of
    the batch.
    """
    generator = torch.Generator().manual_seed(0)
    corners, sides = torch.rand(2, batch, OBJECTS, 2, generator=generator)
    low, high = 0.6 * corners, 0.6 * corners + 0.05 + 0.35 * sides
    boxes = torch.cat([low, high], 2) * torch.tensor(size * 2)
    meta = dict(img_shape=size[::-1], ori_shape=size[::-1])
    meta |= dict(pad_shape=padded, batch_input_shape=padded)
    samples = [
        DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))
        for _ in boxes
    ]
    labels = torch.arange(OBJECTS) % 2
    for sample, each in zip(samples, boxes, strict=True):
        sample.gt_instances = InstanceData(bboxes=each, labels=labels)
    return samples


def write_jpegs(folder: Path) -> list[Path]:
    """Write `JPEGS` pictures of smooth noise, as large as COCO's files."""
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
