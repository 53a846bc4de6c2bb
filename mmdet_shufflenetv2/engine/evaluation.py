"""COCO evaluation: what ``test`` asks of mmdet's metric."""

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
from .run_data import datasets_of, metrics_of

# pycocotools defines AP at these numbers of boxes per image, and papers
# report the recall of proposals at those.
BOXES_PER_IMAGE = 1, 10, 100
PROPOSALS_PER_IMAGE = 100, 300, 1000
# The last may be what an earlier test has left in a config.
BOX_METRICS = 'BoxMetric', 'CocoMetric', 'ProposalMetric'


def coco_metrics(
    cfg: Config, words: Sequence[str], outfile_prefix: str | None = None
) -> list[ConfigDict]:
    """Make one metric config for each word of ``--eval``.

    ``'proposal'`` is the recall of the region proposals, whatever the class;
    ``'bbox'`` leaves ``<outfile_prefix>.bbox.json``.
    """
    found = [
        metric
        for split, metric in metrics_of(cfg)
        if split == 'test' and metric.type.rpartition('.')[2] in BOX_METRICS
    ]
    if not found:
        raise UserError(
            f'{cfg.filename}: test_evaluator has no CocoMetric, which '
            f'--eval {words[0]} needs'
        )
    metrics = {}
    for word in words:
        base = metrics[word] = copy.deepcopy(found[0])
        base.update(type='BoxMetric', metric=word, classwise=True)
        base.proposal_nums = BOXES_PER_IMAGE
        if word == 'proposal':
            rpn = (cfg.model.get('test_cfg') or {}).get('rpn')
            if rpn is None or 'rpn_head' not in cfg.model:
                raise UserError(
                    '--eval proposal is for detectors with region proposals; '
                    f'{cfg.model.type} of {cfg.filename} has none'
                )
            # Recall is computed at three numbers, up to as many as there are.
            most = min(rpn.get('max_per_img', 1000), 1000)
            fewer = [n for n in (1, 10, *PROPOSALS_PER_IMAGE) if n < most]
            numbers = tuple([*fewer, most][-3:])
            base.update(type='ProposalMetric', proposal_nums=numbers)
        elif outfile_prefix:
            base.outfile_prefix = outfile_prefix
    return list(metrics.values())


def keep_proposals(detector: nn.Module) -> None:
    """Let a two-stage detector leave its proposals in the data samples.

    From now on ``proposals`` are boxes in pixels of the image, as those of
    ``pred_instances``, all of the first class.
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
    """Recall of what :func:`keep_proposals` kept; takes ``BoxMetric``'s."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Take the proposals for what was found."""
        kept = [dict(s, pred_instances=s['proposals']) for s in data_samples]
        super().process(data_batch, kept)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Name recalls by the numbers that they were computed at."""
        # mmdet calls the three 100, 300 and 1000 whatever they are.
        meant = dict(zip(PROPOSALS_PER_IMAGE, self.proposal_nums, strict=True))
        named = {}
        for name, value in super().compute_metrics(results).items():
            kind, _, told = name.partition('@')
            named[f'{kind}@{meant[int(told)]}'] = value
        return named


def fast_judge() -> AbstractContextManager:
    """Let faster-coco-eval compute mmdet's numbers instead of pycocotools."""
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise UserError(
            '--fast-eval needs faster-coco-eval: pip install faster-coco-eval'
        ) from error
    return mock.patch.object(coco_metric, 'COCOeval', COCOeval_faster)


def box_metric(cfg: Config, classes: Sequence[str] | None = None) -> BoxMetric:
    """The metric of ``--eval bbox``, of these classes or of all there are."""
    metric = METRICS.build(coco_metrics(cfg, ['bbox'])[0])
    metric.table = metric.table.with_classes(classes or metric.table.classes)
    metric.dataset_meta = dict(classes=metric.table.classes)
    return metric


def evaluate_exported(cfg: Config, detector, folder: str) -> BoxMetric:
    """Print the numbers of a :class:`..deploy.runtime.Detector` on a config's
    test data; the detections go to ``results.bbox.json`` in a folder.
    """
    for name, dataset in datasets_of(cfg):
        if name == 'test':
            dataset.pipeline = dataset.pipeline[:1]
    data = DATASETS.build(cfg.test_dataloader.dataset)
    metric = box_metric(cfg, detector.classes)
    numbers = tqdm(range(len(data)), unit='image', disable=None)
    samples, images = tee(data[number] for number in numbers)
    found = detector.stream(sample['img'] for sample in images)
    ids, records = metric.table.category_ids.tolist(), []
    for sample, boxes in zip(samples, found, strict=True):
        records += boxes.to_coco(sample['img_id'], ids)
    path = Path(folder, 'results.bbox.json')
    path.write_text(json.dumps(records))
    evaluate_file(metric, str(path))
    return metric


def evaluate_file(metric: BoxMetric, path: str) -> None:
    """Print the numbers of COCO-format results that were written before."""
    images = {*metric.table.image_ids.tolist()}
    categories = {*metric.table.category_ids.tolist()}
    try:
        wrong = [
            record
            for record in json.loads(Path(path).read_text())
            if record['image_id'] not in images
            or record['category_id'] not in categories
            or not record['score'] >= 0
            or len(record['bbox']) != 4
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = [error]
    if wrong:
        raise UserError(
            f'{path}: expected a list of results with image_id and '
            f'category_id of {metric.ann_file}, bbox and score, got '
            f'{wrong[0]!r:.200}'
        )
    metric.results, metric.written = [(None, None)], path
    print(json.dumps(metric.evaluate(1), indent=2))


def use_tta(cfg: Config) -> None:
    """Test on each image as it is and flipped as in training.

    Right before the runner is made, as the model becomes a part of another.
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
    flips = [dict(type='RandomFlip', prob=0.0)]
    ways = ['horizontal']
    trained = dicts_of(cfg.get('train_dataloader') or {})
    if any('vertical' in (step.get('direction') or ()) for step in trained):
        ways += ['vertical', 'diagonal']
    for way in ways:
        flips.append(dict(type='RandomFlip', prob=1.0, direction=way))
    branches = [[resize], flips, *([each] for each in rest), [pack]]
    dataset.pipeline = [load, dict(type='TestTimeAug', transforms=branches)]
    cfg.model = ConfigDict(
        type='SoftVotingTTA' if votes else 'DetTTAModel',
        tta_cfg=tta_cfg,
        module=cfg.model,
    )
