"""A two-stage detector taken apart, to be timed part by part.

Weights are random and seeded. What post-processing has to do depends on
values, so it is not left to the random network: where its outputs enter
post-processing, seeded scores and boxes of the same shapes take their place.
They are the same for every network, and so are the proposals, the RoIs and
the detections.

Images are synthetic JPEG files of the size most COCO pictures have.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import cycle
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
from torch import Tensor

from ..engine.run_config import dicts_of, without_pretrained
from ..errors import UserError
from .networks import Inputs, place, settle_norms
from .setting import Setting

JPEG_SIZE = (640, 427)
JPEGS = 8
# Boxes per image that pass the score threshold, about one per proposal, as
# after a trained network.
CANDIDATES = 1000
OBJECTS = 8
# Spread of synthetic values: of a class's logit, and of a box's four deltas
# in a proposal's units and in a RoI's.
LOGIT_STD, PROPOSAL_STD, ROI_STD = 2.0, 0.1, 1.0


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
        RuntimeError: the random network's scores are not finite.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, setting: Setting
    ):
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        # Speed does not depend on where weights come from.
        without_pretrained(cfg)
        self.cfg, self.size, self.batch = cfg, size, batch
        self.setting = setting
        self.wide = replace(setting, precision='fp32')
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
        self.model = place(model, self.wide)
        images = torch.randn(8, 3, 64, 64, device=setting.device)
        settle_norms(model, images, model.extract_feat)
        model.eval()
        step = model.data_preprocessor.pad_size_divisor
        width, height = (-(-side // step) * step for side in size)
        self.inputs = Inputs((batch, 3, height, width), self.wide)
        self.samples = make_samples(
            size, (height, width), batch, setting.device
        )
        self.warning = self._feed_synthetic_values()

    def _feed_synthetic_values(self) -> str:
        """Give post-processing the same to do after every network."""
        rpn, box_head = self.model.rpn_head, self.model.roi_head.bbox_head
        propose, detect = rpn.predict_by_feat, box_head.predict_by_feat
        threshold = self.model.roi_head.test_cfg.score_thr

        def propose_synthetic(cls_scores, bbox_preds, *args, **kwargs):
            return propose(
                [normal(scores, LOGIT_STD) for scores in cls_scores],
                [normal(deltas, PROPOSAL_STD) for deltas in bbox_preds],
                *args,
                **kwargs,
            )

        def detect_synthetic(rois, cls_scores, bbox_preds, *args, **kwargs):
            counts = [len(scores) for scores in cls_scores]
            scores = class_scores(
                _all(cls_scores), threshold, CANDIDATES * len(counts)
            )
            deltas = normal(_all(bbox_preds), ROI_STD)
            return detect(
                rois,
                scores.split(counts),
                deltas.split(counts),
                *args,
                **kwargs,
            )

        rpn.predict_by_feat = propose_synthetic
        box_head.predict_by_feat = detect_synthetic
        with self._inference():
            _, _, outputs = self._forward(self.inputs())
        logits = outputs['cls_score']
        if not logits.isfinite().all():
            raise RuntimeError(
                'the random network gives scores beyond '
                f'{self.setting.precision}'
            )
        scores = class_scores(logits, threshold, CANDIDATES * self.batch)
        passing = scores.float().softmax(1)[:, :-1] > threshold
        found = passing.sum().item() / self.batch
        if abs(found / CANDIDATES - 1) < 0.05:
            return ''
        return (
            f'{found:.0f} boxes per image pass score_thr={threshold}, not '
            f'{CANDIDATES}'
        )

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), self._autocast():
            yield

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.setting.device).type,
            self.setting.dtype,
            enabled=self.setting.dtype != torch.float32,
        )

    def part(self, name: str) -> Callable[[], object]:
        """What to call to run one of `PARTS` once."""
        return PARTS[name](self)

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

    def network(self) -> Callable[[], object]:
        """Everything with weights, on RoIs that stay the same."""
        with self._inference():
            _, rois, _ = self._forward(self.inputs())

        def run() -> object:
            with self._inference():
                return self._forward(self.inputs(), rois)

        return run

    def post_processing(self) -> Callable[[], object]:
        """From scores to proposals, and from scores to detections."""
        head = self.model.roi_head
        with self._inference():
            rpn, rois, outputs = self._forward(self.inputs())
        counts = rois[:, 0].long().bincount(minlength=self.batch).tolist()
        metas = [s.metainfo for s in self.samples]
        parts = [
            tensor.split(counts)
            for tensor in (rois, outputs['cls_score'], outputs['bbox_pred'])
        ]

        def run() -> object:
            with self._inference():
                self._propose(rpn)
                return head.bbox_head.predict_by_feat(
                    *parts, metas, head.test_cfg
                )

        return run

    def detection(self) -> Callable[[], object]:
        """From a batch in memory to detections."""

        def run() -> object:
            with self._inference():
                return self.model.predict(self.inputs(), self.samples, False)

        return run

    def end_to_end(self) -> Callable[[], object]:
        """From JPEG files to detections in the host's memory."""
        load = Compose(self._pipeline())
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
            with self._inference():
                results = self.model.test_step(data)
            return [result.cpu() for result in results]

        return run

    def _pipeline(self) -> list:
        """The config's own steps for testing, at this size."""
        steps = copy.deepcopy(self.cfg.test_dataloader.dataset.pipeline)
        for node in dicts_of(steps):
            if 'Resize' in node.get('type', ''):
                node['scale'] = self.size
        return [
            TRANSFORMS.build(step)
            for step in steps
            if step['type'] != 'LoadAnnotations'
        ]

    def training_step(self) -> Callable[[], object]:
        """Losses, gradients, and a step of SGD that moves nothing.

        It is a copy that trains: batch norms follow the images they see, and
        the other parts are those of a detector that never did.
        """
        model = copy.deepcopy(self.model).train()
        optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            lr=0.0,
            momentum=0.9,
        )
        scaler = torch.amp.GradScaler(
            enabled=self.setting.dtype == torch.float16
        )

        def run() -> None:
            with self._autocast():
                losses = model.loss(self.inputs(), self.samples)
                total, _ = model.parse_losses(losses)
            scaler.scale(total).backward()
            scaler.step(optimizer)
            scaler.update()
            # Gradients are memory of this step, not of the next one.
            optimizer.zero_grad()

        return run


PARTS = {
    'network': Detector.network,
    'post-processing': Detector.post_processing,
    'detection': Detector.detection,
    'end to end': Detector.end_to_end,
    'training step': Detector.training_step,
}


def _all(parts: Sequence[Tensor]) -> Tensor:
    """As many rows as the parts have, of no matter what, at no cost."""
    rows = sum(len(part) for part in parts)
    return parts[0].new_empty(1).expand(rows, *parts[0].shape[1:])


def normal(like: Tensor, std: float) -> Tensor:
    """Seeded normally distributed values of the shape of a network's own."""
    return _normal(tuple(like.shape), std, like.dtype, like.device)


@cache
@torch.inference_mode(False)
def _normal(
    shape: tuple[int, ...],
    std: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (std * values).to(device, dtype)


def class_scores(like: Tensor, threshold: float, candidates: int) -> Tensor:
    """Seeded logits of which so many lie above a threshold, if any can.

    Args:
        like: the network's own logits (K, classes + 1), the background last.
        threshold: a box passes for each class with a higher probability.
        candidates: how many pass.
    """
    shape = tuple(like.shape)
    return _class_scores(shape, threshold, candidates, like.dtype, like.device)


@cache
@torch.inference_mode(False)
def _class_scores(
    shape: tuple[int, int],
    threshold: float,
    candidates: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    logits = _normal(shape, LOGIT_STD, torch.float32, torch.device('cpu'))
    logits, background = logits.clone(), logits[:, -1]
    if threshold > 0:
        # The higher the background, the fewer pass: find how high.
        low, high = -50.0, 50.0
        for _ in range(30):
            middle = (low + high) / 2
            logits[:, -1] = background + middle
            passing = logits.softmax(1)[:, :-1] > threshold
            if passing.sum() > candidates:
                low = middle
            else:
                high = middle
        logits[:, -1] = background + high
    return logits.to(device, dtype)


def make_samples(
    size: tuple[int, int], padded: tuple[int, int], batch: int, device: str
) -> list[DetDataSample]:
    """What goes with a batch of images: sizes, and `OBJECTS` boxes in each.

    Args:
        size: width and height of each image.
        padded: height and width of the batch.
        batch: images.
        device: of the boxes.
    """
    width, height = size
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(batch):
        corner = torch.rand(OBJECTS, 2, generator=generator) * 0.6
        side = 0.05 + torch.rand(OBJECTS, 2, generator=generator) * 0.35
        scale = torch.tensor([width, height, width, height])
        boxes = torch.cat([corner, corner + side], 1) * scale
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                pad_shape=padded,
                batch_input_shape=padded,
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(OBJECTS) % 2
        )
        samples.append(sample.to(device))
    return samples


def write_jpegs(folder: Path) -> list[Path]:
    """Write `JPEGS` synthetic pictures into a folder.

    They are smooth noise, in files as large as COCO's on average (160 KB).
    """
    generator = np.random.default_rng(0)
    width, height = JPEG_SIZE
    paths = []
    for index in range(JPEGS):
        path = folder / f'{index}.jpg'
        shape = (height // 5, width // 5, 3)
        coarse = generator.integers(0, 256, shape, np.uint8)
        image = cv2.resize(coarse, JPEG_SIZE, interpolation=cv2.INTER_CUBIC)
        if not cv2.imwrite(str(path), image):
            raise OSError(f'cannot write {path}')
        paths.append(path)
    return paths
