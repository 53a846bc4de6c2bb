"""Run a detector from a checkpoint or an exported file.

    from mmdet_shufflenetv2 import Detector
    found = Detector('best.pth')('photo.jpg')
    print(found.names, found.scores, found.boxes)

The interface is that of the runner of exported files, :mod:`.runtime`.
"""

import os
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from ..compat.host_faults import keep_thin_images
from ..engine.weights import load_detector
from ..errors import UserError
from . import runtime
from .runtime import Detections, ImageError

__all__ = ['Detections', 'Detector']

VIDEOS = {
    *('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm'),
    *('.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.3gp'),
}


class Detector(runtime.Detector):
    """Any MMDetection detector, from a checkpoint or an exported file.

    In addition to the inputs of :class:`.runtime.Detector`, a call accepts a
    video file, and ``stream`` a video file or the number of a camera.

    Args:
        model: An exported file, or a checkpoint of this project or of mmdet.
        config: The checkpoint's config or its path; default: the stored one.
        device: Device for a checkpoint; default: a GPU if there is one.
        threads: Number of threads for an exported file.
        score_thr: Drop detections that score lower.
        batch: Batch size for a checkpoint.
        cfg_options: Overrides of the config.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        config: Config | str | os.PathLike | None = None,
        *,
        device: str | None = None,
        threads: int = 0,
        score_thr: float = 0.0,
        batch: int = 1,
        cfg_options: dict | None = None,
    ):
        self.model = None
        if runtime.is_exported(model):
            is_default = batch == 1 and device in (None, 'cpu')
            if config or cfg_options or not is_default:
                raise UserError(
                    f'{model}: config, cfg_options, batch and device are for '
                    'checkpoints; an exported file has its own, and runs on '
                    'the CPU'
                )
            super().__init__(model, threads=threads, score_thr=score_thr)
            return
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.model = load_detector(model, config, device, cfg_options)
        self.score_thr, self.batch = score_thr, batch
        self.classes = self.model.dataset_meta['classes']
        self.metadata = dict(classes=self.classes)
        keep_thin_images()
        _, *steps = get_test_pipeline_cfg(self.model.cfg)
        load = dict(type='mmdet.LoadImageFromNDArray')
        self._pipeline = Compose([load, *steps])

    def __call__(self, images) -> Detections | list[Detections]:
        """Detect objects in one image, in several, or in a video's frames."""
        if isinstance(images, int):
            raise UserError(f'camera {images} never ends: use stream')
        if is_video(images):
            return list(self.stream(images))
        return super().__call__(images)

    def stream(self, images, on_error=None) -> Iterator[Detections]:
        """Yield the detections of each image or frame."""
        if is_video(images):
            images = frames(open_video(images))
        return super().stream(images, on_error)

    def prepare(self, image) -> tuple:
        """Return an image's pipeline output, (width, height) and path or ''.

        The output's ``inputs`` are (3, h, w) BGR, uint8 unless the pipeline
        normalises; the (width, height) are those before the pipeline.
        """
        if self.model is None:
            return super().prepare(image)
        source, pixels = runtime.read_image(image)
        pixels = np.ascontiguousarray(pixels[..., ::-1])
        data = self._pipeline(dict(img=pixels, img_id=0))
        return data, pixels.shape[1::-1], source

    def canvas(self, one: tuple) -> tuple[int, int]:
        """Return the height and width of an output of ``prepare``, padded."""
        if self.model is None:
            return super().canvas(one)
        step = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        return runtime.round_up(one[0]['inputs'].shape[1:], step)

    @torch.inference_mode()
    def detect(self, batch: list) -> Iterator[Detections]:
        """Detect objects in outputs of ``prepare``, of one canvas."""
        if self.model is None:
            yield from super().detect(batch)
            return
        data, *rest = zip(*batch, strict=True)
        results = self.model.test_step(pseudo_collate(data))
        for result, size, source in zip(results, *rest, strict=True):
            found = result.pred_instances.cpu().numpy()
            values = found.bboxes, found.scores, found.labels, self.classes
            yield Detections(*values, size, source).above(self.score_thr)


def is_video(source) -> bool:
    """Whether this is a path of a video file or the number of a camera."""
    if isinstance(source, str | os.PathLike):
        return os.path.splitext(source)[1].lower() in VIDEOS
    return isinstance(source, int)


def open_video(source: str | os.PathLike | int) -> cv2.VideoCapture:
    """Open a video file or a camera."""
    source = source if isinstance(source, int) else os.fspath(source)
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise ImageError(f'video {source} cannot be opened')
    return video


def frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (H, W, 3) uint8 BGR."""
    while (frame := video.read())[0]:
        yield frame[1]
