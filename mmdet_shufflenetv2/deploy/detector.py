"""Run a detector from a checkpoint or an exported file.

    from mmdet_shufflenetv2 import Detector
    found = Detector('best.pth')('photo.jpg')
    print(found.names, found.scores, found.boxes)

The interface is that of the runner of exported files, :mod:`.runtime`.
"""

import os
from collections.abc import Iterator

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
from .runtime import Detections

__all__ = ['Detections', 'Detector']


class Detector(runtime.Detector):
    """Any MMDetection detector, from a checkpoint or an exported file.

    An exported file gives a :class:`.runtime.Detector`.

    Args:
        model: An exported file, or a checkpoint of this project or of mmdet.
        config: The checkpoint's config or its path; default: the stored one.
        device: Device for a checkpoint; default: a GPU if there is one.
        threads: Number of threads for an exported file.
        score_thr: Drop detections that score lower.
        batch: Batch size for a checkpoint.
        cfg_options: Overrides of the config.
    """

    def __new__(cls, model='', config=None, **options):
        # Python copies a detector without arguments.
        if not runtime.is_exported(model):
            return super().__new__(cls)
        names = 'cfg_options', 'batch', 'device'
        changes, batch, device = (options.pop(name, None) for name in names)
        is_default = batch in (None, 1) and device in (None, 'cpu')
        if config or changes or not is_default:
            raise UserError(
                f'{model}: config, cfg_options, batch and device are for '
                'checkpoints; an exported file has its own, and runs on the '
                'CPU'
            )
        return runtime.Detector(model, **options)

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
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.model = load_detector(model, config, device, cfg_options)
        self.score_thr, self.batch = score_thr, batch
        self.classes = self.model.dataset_meta['classes']
        self.metadata = dict(classes=self.classes)
        keep_thin_images()
        _, *steps = get_test_pipeline_cfg(self.model.cfg)
        load = dict(type='mmdet.LoadImageFromNDArray')
        self._pipeline = Compose([load, *steps])

    def prepare(self, image) -> tuple:
        """Return an image's pipeline output, (width, height) and path or ''.

        The output's ``inputs`` are (3, h, w) BGR, uint8 unless the pipeline
        normalises; the (width, height) are those before the pipeline.
        """
        source, pixels = runtime.read_image(image)
        pixels = np.ascontiguousarray(pixels[..., ::-1])
        data = self._pipeline(dict(img=pixels, img_id=0))
        return data, pixels.shape[1::-1], source

    def canvas(self, one: tuple) -> tuple[int, int]:
        """Return the height and width of an output of ``prepare``, padded."""
        step = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        return runtime.round_up(one[0]['inputs'].shape[1:], step)

    @torch.inference_mode()
    def detect(self, batch: list) -> Iterator[Detections]:
        """Detect objects in outputs of ``prepare``, of one canvas."""
        data, *rest = zip(*batch, strict=True)
        results = self.model.test_step(pseudo_collate(data))
        for result, size, source in zip(results, *rest, strict=True):
            found = result.pred_instances.cpu().numpy()
            values = found.bboxes, found.scores, found.labels, self.classes
            yield Detections(*values, size, source).above(self.score_thr)
