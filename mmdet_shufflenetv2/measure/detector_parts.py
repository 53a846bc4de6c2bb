"""A two-stage detector taken apart, to be timed part by part.

Weights are random, images are drawn; see `detector_inputs`.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from ..engine.run_config import UsageError, dicts_of, without_pretrained
from .detector_inputs import draw_jpegs, make_samples, settle_scores
from .networks import Inputs, place, settle_norms
from .setting import Setting


class Detector:
    """A detector with random weights, and batches for it.

    Args:
        cfg: config of a two-stage detector; changed in place.
        size: width and height that images are resized to.
        batch: images per batch.
        setting: 16 bits run under autocast, as in training.

    Raises:
        UsageError: the detector has no RPN or another kind of RoI head.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, setting: Setting
    ):
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        # Speed does not depend on where weights come from.
        without_pretrained(cfg)
        self.cfg, self.size, self.batch = cfg, size, batch
        self.setting = setting
        self.wide = Setting(**{**vars(setting), 'precision': 'fp32'})
        model = MODELS.build(cfg.model)
        head = getattr(getattr(model, 'roi_head', None), 'bbox_head', None)
        if not (hasattr(model, 'rpn_head') and hasattr(head, 'fc_cls')):
            raise UsageError(
                'config: a detector with an RPN and a fully connected RoI '
                f'classifier is allowed, got {cfg.model.type} '
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
        with torch.inference_mode():
            settle_scores(model, self.inputs(), self.samples)

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
        self.model.train(name == 'training step')
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
        files = cycle(draw_jpegs(Path(self.folder.name)))

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
        """Losses, gradients, and a step of SGD that moves nothing."""
        model = self.model
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
