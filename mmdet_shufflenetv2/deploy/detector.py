"""Run a checkpoint as an exported file is run: the same call and result.

from mmdet_shufflenetv2 import Detector
found = Detector('best.pth')('photo.jpg')
print(found.names, found.scores, found.boxes)
"""

import ast
import os
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..compat.host_faults import keep_thin_images
from ..engine.weights import load_detector
from ..errors import UserError
from . import runtime
from .runtime import Detections, ImageError

__all__ = ['Detections', 'Detector', 'load_checkpoint']

VIDEOS = {
    *('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm'),
    *('.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.3gp'),
}


class Detector(runtime.Detector):
    """A detector from a checkpoint, or from an exported file.

    Any detector of MMDetection that a config describes; for a file that ends
    in ``.onnx`` see :class:`.runtime.Detector`. Beside what that one takes, a
    call takes a video file, and ``stream`` also the number of a camera.

    Args:
        model: A checkpoint of this project's or of mmdet's training.
        config: Its config, or the file; by default what the checkpoint says.
        device: Of a checkpoint: ``'cpu'``, ``'cuda'``, ``'cuda:1'``; a GPU
            by default where there is one.
        threads: Of an ``.onnx`` file: how many its runtime may use.
        score_thr: Detections below are left out.
        batch: Images that a checkpoint takes at once.
        cfg_options: Overrides of the config.

    Raises:
        UserError: The file cannot be used.
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
        if os.fspath(model).endswith(runtime.MODELS):
            super().__init__(model, threads=threads, score_thr=score_thr)
            return
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.model = load_checkpoint(model, config, device, cfg_options)
        self.score_thr, self._batch = score_thr, batch
        self.classes = self.model.dataset_meta['classes']
        self.metadata = dict(classes=self.classes)
        keep_thin_images()
        _, *steps = get_test_pipeline_cfg(self.model.cfg)
        load = dict(type='mmdet.LoadImageFromNDArray')
        self._pipeline = Compose([load, *steps])

    def __call__(self, images) -> Detections | list[Detections]:
        """Detect in one image, or in each of several or of a video's."""
        if is_video(images):
            return list(self.stream(images))
        return super().__call__(images)

    def stream(self, images, on_error=None) -> Iterator[Detections]:
        """Detect in image after image, or frame after frame."""
        if is_video(images):
            images = frames(open_video(images))
        return super().stream(images, on_error)

    def _prepare(self, image) -> tuple:
        if self.model is None:
            return super()._prepare(image)
        source, pixels = runtime.read_image(image)
        pixels = np.ascontiguousarray(pixels[..., ::-1])
        data = self._pipeline(dict(img=pixels, img_id=0))
        return data, pixels.shape[1::-1], source

    @torch.inference_mode()
    def _detect(self, batch: list) -> Iterator[Detections]:
        if self.model is None:
            yield from super()._detect(batch)
            return
        data, sizes, sources = zip(*batch, strict=True)
        results = self.model.test_step(pseudo_collate(data))
        for result, *rest in zip(results, sizes, sources, strict=True):
            found = result.pred_instances.cpu().numpy()
            values = found.bboxes, found.scores, found.labels, self.classes
            yield Detections(*values, *rest).above(self.score_thr)


def is_video(source) -> bool:
    """Whether this is the name of a video or the number of a camera."""
    if isinstance(source, str | os.PathLike):
        return os.path.splitext(source)[1].lower() in VIDEOS
    return isinstance(source, int)


def open_video(source: str | os.PathLike | int) -> cv2.VideoCapture:
    """Open a video file, or the camera of a number.

    Raises:
        ImageError: It cannot be opened.
    """
    source = source if isinstance(source, int) else os.fspath(source)
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise ImageError(f'video {source} cannot be opened')
    return video


def frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """The frames of a video, (H, W, 3) uint8 BGR."""
    while (frame := video.read())[0]:
        yield frame[1]


def load_checkpoint(
    path: str | os.PathLike,
    config: Config | str | os.PathLike | None = None,
    device: str = 'cpu',
    cfg_options: dict | None = None,
) -> nn.Module:
    """Build a checkpoint's detector; its ``cfg`` and ``dataset_meta`` too.

    Args: as of :class:`Detector`.

    Raises:
        UserError: There is no such file or device, or no config of a
            detector, or they do not fit.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path}: no such file')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'device {device}: {reason}') from error
    if config is None:
        content = CheckpointLoader.load_checkpoint(path, 'cpu', logger=None)
        config = read_config((content.get('meta') or {}).get('cfg'), path)
    elif not isinstance(config, Config):
        config = Config.fromfile(os.fspath(config))
    config.merge_from_dict(cfg_options or {})
    if config.get('default_scope') == 'mmpretrain':
        raise UserError(
            f'{path} is a classifier; expected a detector. '
            'tools/test.py CONFIG CKPT --eval error tests it'
        )
    model = load_detector(config, path, device)
    if not model.dataset_meta['classes']:
        head = getattr(model, 'roi_head', model).bbox_head
        model.dataset_meta['classes'] = (*map(str, range(head.num_classes)),)
    return model


def read_config(text: str | None, path: str) -> Config:
    """The config that a checkpoint's training wrote into it.

    It is Python, and a file from elsewhere is not run: only assignments of
    literals and of ``dict(...)`` are read, which is all that mmengine writes.

    Raises:
        UserError: There is none, or it holds anything else.
    """
    advice = 'name the config file that it was trained with'
    if not isinstance(text, str):
        raise UserError(f'checkpoint {path} has no config in it: {advice}')
    try:
        lines = _Calls().visit(ast.parse(text)).body
        pairs = ((each.targets[0].id, each.value) for each in lines)
        return Config({k: ast.literal_eval(value) for k, value in pairs})
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'checkpoint {path}: its config cannot be read ({error}): {advice}'
        ) from error


class _Calls(ast.NodeTransformer):
    """Write ``dict(...)`` and ``float('inf')`` as literals."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = getattr(node.func, 'id', None)
        if name == 'float':
            return ast.Constant(float(ast.literal_eval(node.args[0])))
        if name != 'dict' or len(node.args) > 1:
            raise ValueError(f'line {node.lineno} calls a function')
        # Keys that are no names come as dict({...}).
        given = node.args[0] if node.args else ast.Dict([], [])
        keys = [ast.Constant(each.arg) for each in node.keywords]
        values = [each.value for each in node.keywords]
        return ast.Dict(given.keys + keys, given.values + values)
