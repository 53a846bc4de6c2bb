"""Predictions of ``tools/test.py --out``, evaluated again.

The format is mmdet's, a pickle, which could run any code when it is read the
usual way. Here it is read with nothing but tensors and plain values in it.
"""

import codecs
import collections
import io
import pickle
from collections.abc import Sequence

import torch
from mmdet.datasets import CocoDataset
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator

from ..data import BoxMetric
from .evaluation import coco_metrics
from .run_config import UsageError


def _storage(content: bytes) -> torch.TypedStorage:
    """What torch's function of this place does, with nothing but weights."""
    return torch.load(io.BytesIO(content), weights_only=True)


# What a pickle of tensors and plain values refers to.
ALLOWED = {
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('_codecs', 'encode'): codecs.encode,
    ('collections', 'OrderedDict'): collections.OrderedDict,
}


IMAGE_KEYS = {'img_id', 'ori_shape', 'pred_instances'}
BOX_KEYS = {'bboxes', 'scores', 'labels'}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, and predictions hold only '
                'tensors, numbers and text; nothing of it was run'
            )
        return ALLOWED[module, name]


def read_predictions(path: str) -> list[dict]:
    """Read what ``--out`` wrote.

    Args:
        path: Of the pickle.

    Returns:
        For each image a dict with ``img_id``, ``ori_shape`` (height, width)
        and ``pred_instances``: ``bboxes`` (K, 4) as x1, y1, x2, y2 in pixels
        of the image, ``scores`` (K,) and ``labels`` (K,).

    Raises:
        UsageError: If it is something else; nothing of it is run.
    """
    try:
        with open(path, 'rb') as file:
            predictions = _Unpickler(file).load()
    except Exception as error:
        # A broken pickle can raise nearly anything.
        raise UsageError(f'cannot read predictions {path}: {error}') from error
    if not isinstance(predictions, list):
        predictions = [predictions]
    for place, record in enumerate(predictions):
        if not _is_prediction(record):
            raise UsageError(
                f'{path}, record {place}: expected the keys '
                f'{sorted(IMAGE_KEYS)}, and {sorted(BOX_KEYS)} in '
                f'pred_instances, got {record!r:.200}'
            )
    return predictions


def _is_prediction(record) -> bool:
    if not isinstance(record, dict) or not record.keys() >= IMAGE_KEYS:
        return False
    boxes = record['pred_instances']
    return isinstance(boxes, dict) and boxes.keys() >= BOX_KEYS


def evaluate_predictions(
    path: str,
    base: ConfigDict,
    words: list[str],
    classes: Sequence[str] | None = None,
) -> dict[str, float]:
    """Compute the metrics of predictions that were written before.

    Args:
        path: Of the pickle.
        base: A ``CocoMetric`` config.
        words: See :func:`coco_metrics`.
        classes: Names in the order of the labels; None for those of COCO.

    Raises:
        UsageError: If the file holds something else, or predictions of other
            images or classes.
    """
    predictions = read_predictions(path)
    classes = classes or CocoDataset.METAINFO['classes']
    configs = coco_metrics(base, words)
    metrics = [
        BoxMetric(**{k: v for k, v in config.items() if k != 'type'})
        for config in configs
    ]
    images = set(metrics[0]._coco_api.getImgIds())
    for place, record in enumerate(predictions):
        highest = max(record['pred_instances']['labels'].tolist(), default=-1)
        for what, value, allowed, names in (
            ('img_id', record['img_id'], images, base.ann_file),
            ('label', highest, range(-1, len(classes)), ', '.join(classes)),
        ):
            if value not in allowed:
                raise UsageError(
                    f'{path}, record {place}: {what} {value!r} is not in '
                    f'{names}'
                )
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = dict(classes=classes)
    return evaluator.offline_evaluate(predictions)
