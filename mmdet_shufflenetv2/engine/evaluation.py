"""COCO evaluation of ``test``, on top of mmdet's metric."""

import copy
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import tee
from pathlib import Path
from unittest import mock

import torch
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config, ConfigDict
from torch import nn
from tqdm import tqdm

from ..data import BoxMetric
from ..detection import soft_voting
from ..errors import UserError
from .run_config import dicts_of
from .run_data import datasets_of, is_box_metric, metrics_of, source_of

# Maximum boxes per image: the first as pycocotools defines AP, the second as
# papers report the recall of proposals.
BOXES_PER_IMAGE = 1, 10, 100
PROPOSALS_PER_IMAGE = 100, 300, 1000


def coco_metrics(
    cfg: Config, words: Sequence[str], outfile_prefix: str | None = None
) -> list[ConfigDict]:
    """Make one metric config for each word of ``--eval``.

    ``'proposal'`` is the class-agnostic recall of the region proposals;
    ``'bbox'`` also writes ``<outfile_prefix>.bbox.json``.
    """
    found = [
        metric
        for split, metric in metrics_of(cfg)
        if split == 'test' and is_box_metric(metric) and 'ann_file' in metric
    ]
    if not found:
        raise UserError(
            f'{cfg.filename}: test_evaluator has no CocoMetric, which '
            f'--eval {words[0]} needs'
        )
    metrics = {}
    sources = [source_of(d) for name, d in datasets_of(cfg) if name == 'test']
    for word in words:
        base = metrics[word] = copy.deepcopy(found[0])
        base.update(type='BoxMetric', metric=word, classwise=True)
        if sources[0]:  # A CocoMetric does not know where the images are.
            base.setdefault('img_dir', [*sources[0].images])
        base.proposal_nums = BOXES_PER_IMAGE
        if word == 'proposal':
            rpn = (cfg.model.get('test_cfg') or {}).get('rpn')
            if rpn is None or 'rpn_head' not in cfg.model:
                raise UserError(
                    '--eval proposal needs a detector with region proposals; '
                    f'{cfg.model.type} in {cfg.filename} has none'
                )
            # mmdet expects three numbers, here up to the detector's maximum;
            # if that is 10 or less, 1 is repeated.
            most = min(rpn.get('max_per_img', 1000), 1000)
            fewer = [n for n in (1, 10, *PROPOSALS_PER_IMAGE) if n < most]
            numbers = tuple([1, 1, *fewer, most][-3:])
            base.update(type='ProposalMetric', proposal_nums=numbers)
        elif outfile_prefix:
            base.outfile_prefix = outfile_prefix
    return list(metrics.values())


def keep_proposals(detector: nn.Module) -> None:
    """Let a two-stage detector keep its proposals in the data samples.

    ``proposals`` are boxes in image pixels, like ``pred_instances``; their
    label is always 0.
    """
    predict = detector.rpn_head.predict

    def predict_and_keep(x, samples, rescale=False):
        results = predict(x, samples, rescale=rescale)
        for sample, found in zip(samples, results, strict=True):
            kept = sample.proposals = found.clone()
            kept.labels = torch.zeros_like(kept.labels)
            if not rescale:
                scale = kept.bboxes.new_tensor(sample.scale_factor)
                kept.bboxes = kept.bboxes / scale.repeat(2)
        return results

    detector.rpn_head.predict = predict_and_keep


@METRICS.register_module()
class ProposalMetric(BoxMetric):
    """Recall of the proposals that :func:`keep_proposals` kept."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Evaluate the proposals instead of the detections."""
        kept = [dict(s, pred_instances=s['proposals']) for s in data_samples]
        super().process(data_batch, kept)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Rename recalls to the numbers of proposals actually used."""
        # mmdet always calls the three 100, 300 and 1000.
        used = dict(zip(PROPOSALS_PER_IMAGE, self.proposal_nums, strict=True))
        named = {}
        for name, value in super().compute_metrics(results).items():
            kind, _, number = name.partition('@')
            named[f'{kind}@{used[int(number)]}'] = value
        return named


def use_faster_coco_eval() -> AbstractContextManager:
    """Make mmdet's metric use faster-coco-eval instead of pycocotools."""
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise UserError(
            '--fast-eval needs faster-coco-eval: pip install faster-coco-eval'
        ) from error
    return mock.patch.object(coco_metric, 'COCOeval', COCOeval_faster)


def box_metric(cfg: Config, classes: Sequence[str] | None = None) -> BoxMetric:
    """The metric of ``--eval bbox``, for these classes or for all classes."""
    metric = METRICS.build(coco_metrics(cfg, ['bbox'])[0])
    metric.table = metric.table.with_classes(classes or metric.table.classes)
    metric.dataset_meta = dict(classes=metric.table.classes)
    return metric


def detect_test_images(
    cfg: Config, detector, metric: BoxMetric, path: str
) -> None:
    """Write COCO-format results of a config's test images to a file.

    ``detector`` is a :class:`..deploy.runtime.Detector`; ``metric`` has the
    category ids of its classes. `UserError` if an image cannot be read.
    """
    for name, dataset in datasets_of(cfg):
        if name == 'test':
            dataset.pipeline = dataset.pipeline[:1]
    data = DATASETS.build(cfg.test_dataloader.dataset)
    numbers = tqdm(range(len(data)), unit='image', disable=None)
    samples, images = tee(data[number] for number in numbers)
    found = detector.stream(sample['img'] for sample in images)
    ids, records = metric.table.category_ids.tolist(), []
    for sample, boxes in zip(samples, found, strict=True):
        records += boxes.to_coco(sample['img_id'], ids)
    Path(path).write_text(json.dumps(records))


def use_tta(cfg: Config) -> None:
    """Test on each image and its flipped copies; flips are as in training.

    Call this last before making the runner, because it wraps the model.
    """
    rcnn = (cfg.model.get('test_cfg') or {}).get('rcnn') or {}
    nms = rcnn.get('nms', dict(type='nms', iou_threshold=0.5))
    tta_cfg = dict(nms=nms, max_per_img=rcnn.get('max_per_img', 100))
    votes = nms.get('type') == soft_voting.NAME
    dataset = cfg.test_dataloader.dataset
    load, resize, *rest, pack = dataset.pipeline
    keys = dict(pack).get('meta_keys') or ('img_id', 'img_path', 'ori_shape')
    wanted = ('img_shape', 'scale_factor', 'flip', 'flip_direction')
    pack = dict(pack, meta_keys=tuple(dict.fromkeys((*keys, *wanted))))
    directions = ['horizontal']
    steps = dicts_of(cfg.get('train_dataloader') or {})
    if any('vertical' in (step.get('direction') or ()) for step in steps):
        directions += ['vertical', 'diagonal']
    flips = [dict(type='RandomFlip', prob=0.0)]
    for direction in directions:
        flips.append(dict(type='RandomFlip', prob=1.0, direction=direction))
    branches = [[resize], flips, *([each] for each in rest), [pack]]
    dataset.pipeline = [load, dict(type='TestTimeAug', transforms=branches)]
    cfg.model = ConfigDict(
        type='SoftVotingTTA' if votes else 'DetTTAModel',
        tta_cfg=tta_cfg,
        module=cfg.model,
    )
