"""Run a checkpoint as an exported file is run: the same call and result.

from mmdet_shufflenetv2 import Detector
found = Detector('best.pth')('photo.jpg')
print(found.names, found.scores, found.boxes)
"""

import ast
import os
from collections.abc import Iterable

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..engine.detectors import load_detector
from ..errors import UserError
from . import runtime
from .runtime import Detections, Resize

__all__ = ['Detections', 'Detector', 'load_checkpoint']


class Detector(runtime.Detector):
    """A detector from a checkpoint, or from an exported file.

    Any detector of MMDetection that a config describes; for a file that ends
    in ``.onnx`` see :class:`.runtime.Detector`.

    Args:
        model: A checkpoint of this project's or of mmdet's training.
        config: Its config file; by default what the checkpoint itself says.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``; a GPU by default where
            there is one. Of an ``.onnx`` file only ``'cpu'``.
        threads: How many threads an ``.onnx`` file's runtime may use;
            those of a checkpoint are ``torch.set_num_threads``'s.
        score_thr: Detections below are left out.
        batch: Images that a checkpoint takes at once.

    Raises:
        UserError: The file cannot be used.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        config: str | os.PathLike | None = None,
        *,
        device: str | None = None,
        threads: int = 0,
        score_thr: float = 0.0,
        batch: int = 1,
    ):
        if os.fspath(model).endswith(('.onnx', '.xml')):
            super().__init__(model, threads=threads, score_thr=score_thr)
            return
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.score_thr, self._session = score_thr, None
        self.model = load_checkpoint(model, config, device)
        self.classes = self.model.dataset_meta['classes']
        self.metadata = dict(classes=self.classes)
        self._resize = resize_rule(self.model.cfg)
        # The data preprocessor turns BGR, which mmdet's pipelines give.
        self._is_rgb = False
        self._batch, self._rows, self._canvas = batch, None, None

    @torch.inference_mode()
    def _run(self, image: np.ndarray, size: np.ndarray) -> Iterable:
        if self._session is not None:
            return super()._run(image, size)
        samples, inputs = [], []
        for pixels, (height, width) in zip(
            torch.from_numpy(image), size.astype(int).tolist(), strict=True
        ):
            inputs.append(pixels[:height, :width].permute(2, 0, 1))
            shape = dict(img_shape=(height, width), ori_shape=(height, width))
            samples.append(
                DetDataSample(metainfo=dict(shape, scale_factor=(1.0, 1.0)))
            )
        results = self.model.test_step(
            dict(inputs=inputs, data_samples=samples)
        )
        found = [each.pred_instances.cpu() for each in results]
        return (
            [each.bboxes.numpy() for each in found],
            [each.scores.numpy() for each in found],
            [each.labels.numpy() for each in found],
            [len(each) for each in found],
        )


def load_checkpoint(
    path: str | os.PathLike,
    config: str | os.PathLike | None = None,
    device: str = 'cpu',
) -> nn.Module:
    """Build a checkpoint's detector; its ``cfg`` and ``dataset_meta`` too.

    Args:
        path: The checkpoint.
        config: The config file; by default what training wrote into the
            checkpoint.
        device: Where it goes.

    Raises:
        UserError: There is no such file, no config, or they do not fit.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path}: no such file')
    if config is None:
        content = CheckpointLoader.load_checkpoint(path, 'cpu', logger=None)
        meta = content.get('meta') or {}
        cfg = read_config(meta.get('cfg'), path)
    else:
        cfg = Config.fromfile(os.fspath(config))
    model = load_detector(cfg, path, device)
    classes = model.dataset_meta['classes']
    if not classes:
        head = getattr(model, 'roi_head', model).bbox_head
        classes = tuple(map(str, range(head.num_classes)))
        model.dataset_meta['classes'] = classes
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
        return Config(
            {
                statement.targets[0].id: _literal(statement.value)
                for statement in ast.parse(text).body
            }
        )
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'checkpoint {path}: its config cannot be read ({error}): {advice}'
        ) from error


def _literal(node: ast.expr):
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', None) == 'dict' and len(node.args) < 2:
            # Keys that are no names come as dict({...}).
            given = _literal(node.args[0]) if node.args else {}
            return given | {k.arg: _literal(k.value) for k in node.keywords}
        if getattr(node.func, 'id', None) == 'float':
            return float(ast.literal_eval(node.args[0]))
        raise ValueError(f'line {node.lineno} calls a function')
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(map(_literal, node.elts))
    return ast.literal_eval(node)


def resize_rule(cfg: Config) -> Resize:
    """How a config's test pipeline resizes an image.

    Raises:
        UserError: It has no ``Resize`` of one scale.
    """
    loader = cfg.get('test_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    pipeline = dataset.get('pipeline') or cfg.get('test_pipeline') or ()
    for step in pipeline:
        scale = step.get('scale')
        if step.get('type') in ('Resize', 'mmdet.Resize') and scale:
            keep_ratio = bool(step.get('keep_ratio', False))
            return Resize(*scale, keep_ratio, turn=keep_ratio)
    raise UserError(
        'the config: expected a Resize with a scale in the pipeline of '
        'test_dataloader'
    )
