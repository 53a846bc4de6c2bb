"""A two-stage detector taken apart, to be timed part by part.

Weights are random. So that post-processing has as much to do as behind a
trained detector, the class scores are spread and shifted until `CANDIDATES`
boxes per image pass the score threshold, about one for each proposal.

Images are drawn, and come as JPEG files of the size most COCO pictures have.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..datasets.drawing import RandomSource
from ..datasets.scenes import SceneSpec, draw_scene
from ..engine.run_config import UsageError, dicts_of
from .setting import Inputs, Setting, place, settle_norms

JPEG_SIZE = (640, 427)
JPEGS = 8
CANDIDATES = 1000
LOGIT_STD = 2.0
OBJECTS = 8


class Detector:
    """A detector with random weights, and batches for it.

    Args:
        cfg: config of a two-stage detector; changed in place.
        size: width and height that images are resized to.
        batch: images per batch.
        setting: 16 bits run under autocast, as in training.

    Raises:
        UsageError: the detector has no RPN or no RoI head.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], batch: int, setting: Setting
    ):
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        for node in dicts_of(cfg.model):
            # Speed does not depend on where weights come from.
            if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
                node['init_cfg'] = None
        self.cfg, self.size, self.batch = cfg, size, batch
        self.setting = setting
        self.wide = Setting(**{**vars(setting), 'precision': 'fp32'})
        model = MODELS.build(cfg.model)
        if not (getattr(model, 'with_rpn', 0) and model.with_roi_head):
            raise UsageError(
                'config: a detector with rpn_head and roi_head is allowed, '
                f'got {cfg.model.type} ({cfg.filename})'
            )
        model.init_weights()
        self.model = place(model, self.wide)
        images = torch.randn(8, 3, 64, 64, device=setting.device)
        settle_norms(model, images, model.extract_feat)
        model.eval()
        self.inputs = Inputs(self._shape(), self.wide)
        with torch.inference_mode():
            settle_scores(model, self.inputs(), self.samples())

    def _shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of a batch, padded as the config pads it."""
        step = self.model.data_preprocessor.pad_size_divisor
        width, height = (-(-side // step) * step for side in self.size)
        return self.batch, 3, height, width

    def samples(self) -> list[DetDataSample]:
        """What goes with a batch of images; `OBJECTS` boxes in each."""
        width, height = self.size
        generator = torch.Generator().manual_seed(0)
        samples = []
        for _ in range(self.batch):
            corner = torch.rand(OBJECTS, 2, generator=generator) * 0.6
            side = 0.05 + torch.rand(OBJECTS, 2, generator=generator) * 0.35
            scale = torch.tensor([width, height, width, height])
            boxes = torch.cat([corner, corner + side], 1) * scale
            sample = DetDataSample(
                metainfo=dict(
                    img_shape=(height, width),
                    ori_shape=(height, width),
                    pad_shape=self._shape()[2:],
                    batch_input_shape=self._shape()[2:],
                    scale_factor=(1.0, 1.0),
                )
            )
            sample.gt_instances = InstanceData(
                bboxes=boxes, labels=torch.arange(OBJECTS) % 2
            )
            samples.append(sample.to(self.setting.device))
        return samples

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
            batch_img_metas=[s.metainfo for s in self.samples()],
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
        metas = [s.metainfo for s in self.samples()]
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
        samples = self.samples()

        def run() -> object:
            with self._inference():
                return self.model.predict(self.inputs(), samples, False)

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
        model = self.model.train()
        optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            lr=0.0,
            momentum=0.9,
        )
        scaler = torch.amp.GradScaler(
            enabled=self.setting.dtype == torch.float16
        )
        samples = self.samples()

        def run() -> None:
            with self._autocast():
                losses = model.loss(self.inputs(), samples)
                total, _ = model.parse_losses(losses)
            optimizer.zero_grad()
            scaler.scale(total).backward()
            scaler.step(optimizer)
            scaler.update()

        return run


PARTS = {
    'network': Detector.network,
    'post-processing': Detector.post_processing,
    'detection': Detector.detection,
    'end to end': Detector.end_to_end,
    'training step': Detector.training_step,
}


def settle_scores(
    model: nn.Module, images: Tensor, samples: list[DetDataSample]
) -> None:
    """Let `CANDIDATES` boxes per image pass the score threshold.

    Args:
        model: its classifier's weights are changed in place.
        images: (N, 3, H, W).
        samples: one per image.

    Raises:
        RuntimeError: the scores of the network are not finite.
    """
    head = model.roi_head
    metas = [sample.metainfo for sample in samples]
    features = model.extract_feat(images)
    proposals = model.rpn_head.predict_by_feat(
        *model.rpn_head(features),
        batch_img_metas=metas,
        cfg=model.test_cfg.rpn,
    )
    rois = bbox2roi([p.bboxes for p in proposals])
    logits = head._bbox_forward(features, rois)['cls_score'].float()
    if not logits.isfinite().all():
        raise RuntimeError('the random network gives scores beyond float32')
    scale = LOGIT_STD / logits.std().clamp(min=1e-6)
    logits = logits * scale
    low, high = -50.0, 50.0
    for _ in range(30):
        shift = (low + high) / 2
        shifted = logits.clone()
        shifted[:, -1] += shift
        passing = shifted.softmax(1)[:, :-1] > head.test_cfg.score_thr
        if passing.sum() > CANDIDATES * len(images):
            low = shift
        else:
            high = shift
    classifier = head.bbox_head.fc_cls
    classifier.weight.mul_(scale)
    classifier.bias.mul_(scale)
    classifier.bias[-1] += high


def draw_jpegs(folder: Path) -> list[Path]:
    """Write `JPEGS` drawn pictures into a folder."""
    width, height = JPEG_SIZE
    spec = SceneSpec(width=width, height=height, empty_rate=0.0)
    paths = []
    for index in range(JPEGS):
        path = folder / f'{index}.jpg'
        image = draw_scene(RandomSource(0, 0, index), spec).image
        if not cv2.imwrite(str(path), image[..., ::-1]):
            raise OSError(f'cannot write {path}')
        paths.append(path)
    return paths
