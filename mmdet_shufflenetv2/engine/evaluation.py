"""COCO evaluation: what ``tools/test.py`` asks of mmdet's metric."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import METRICS
from mmengine.config import Config, ConfigDict
from torch import nn

from ..data import BoxMetric
from ..errors import UserError
from .run_config import evaluators_of

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

    Args:
        cfg: Of the network; checked, so that its test evaluator is, or
            lists, a ``BoxMetric``.
        words: ``'bbox'`` and / or ``'proposal'`` (recall of the region
            proposals, whatever the class).
        outfile_prefix: Where ``'bbox'`` leaves ``<prefix>.bbox.json``.

    Returns:
        The configs, in the order of the words, one of each.

    Raises:
        UserError: The config has no such metric, or its network has no
            region proposals.
    """
    metrics = {}
    for word in words:
        base = next(
            (
                copy.deepcopy(each)
                for each in evaluators_of(cfg, 'test')
                if each.type.rpartition('.')[2] in BOX_METRICS
            ),
            None,
        )
        if base is None:
            raise UserError(
                f'{cfg.filename}: test_evaluator has no CocoMetric, which '
                f'--eval {word} needs'
            )
        base.update(
            type='BoxMetric', metric=word, proposal_nums=BOXES_PER_IMAGE
        )
        if word == 'proposal':
            base.update(
                type='ProposalMetric', proposal_nums=proposal_numbers(cfg)
            )
        elif outfile_prefix:
            base.outfile_prefix = outfile_prefix
        metrics[word] = base
    return list(metrics.values())


def proposal_numbers(cfg: Config) -> tuple[int, ...]:
    """At which three numbers of proposals per image recall is computed.

    Raises:
        UserError: The network has no region proposals.
    """
    rpn = (cfg.model.get('test_cfg') or {}).get('rpn')
    if rpn is None or 'rpn_head' not in cfg.model:
        raise UserError(
            f'--eval proposal is for detectors with region proposals; '
            f'{cfg.model.type} of {cfg.filename} has none'
        )
    limit = rpn.get('max_per_img', PROPOSALS_PER_IMAGE[-1])
    numbers = {n for n in (1, 10, *PROPOSALS_PER_IMAGE) if n < limit}
    return tuple(sorted(numbers | {min(limit, PROPOSALS_PER_IMAGE[-1])})[-3:])


def keep_proposals(detector: nn.Module) -> None:
    """Let a two-stage detector leave its proposals in the data samples.

    Args:
        detector: Its ``predict`` from now on gives samples with
            ``proposals``: boxes in pixels of the image, as those of
            ``pred_instances``.
    """
    predict = detector.rpn_head.predict

    def predict_and_keep(x, samples, rescale=False):
        results = predict(x, samples, rescale=rescale)
        for sample, found in zip(samples, results, strict=True):
            kept = found.clone()
            if not rescale:
                scale = kept.bboxes.new_tensor(sample.scale_factor)
                kept.bboxes = kept.bboxes / scale.repeat(2)
            sample.proposals = kept
        return results

    detector.rpn_head.predict = predict_and_keep


@METRICS.register_module()
class ProposalMetric(BoxMetric):
    """Recall of what :func:`keep_proposals` kept, whatever the class.

    Args:
        proposal_nums: Three numbers of proposals per image.
        kwargs: Those of ``BoxMetric``.
    """

    def __init__(self, *args, proposal_nums=PROPOSALS_PER_IMAGE, **kwargs):
        super().__init__(*args, proposal_nums=proposal_nums, **kwargs)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep an image's proposals, as if all were of the first class."""
        samples = []
        for sample in data_samples:
            found = dict(sample['proposals'])
            found['labels'] = found['labels'].new_zeros(len(found['labels']))
            samples.append({**sample, 'pred_instances': found})
        super().process(data_batch, samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Name recalls by the numbers that they were computed at."""
        metrics = super().compute_metrics(results)
        # mmdet calls the three 100, 300 and 1000 whatever they are.
        names = {
            f'@{told}': f'@{meant}'
            for told, meant in zip(
                PROPOSALS_PER_IMAGE, self.proposal_nums, strict=True
            )
        }
        return {
            name.replace(at, names.get(at, at)): value
            for name, value in metrics.items()
            for at in ['@' + name.partition('@')[2]]
        }


class ResultFileMetric(BoxMetric):
    """mmdet's COCO metric over a result file that was written before.

    Args:
        result_file: COCO-format results, a JSON list of records with
            ``image_id``, ``category_id``, ``bbox`` and ``score``.
        kwargs: Those of ``BoxMetric``.

    Raises:
        UserError: If the file is not such a list, or has other images.
    """

    def __init__(self, result_file: str, **kwargs):
        super().__init__(**kwargs)
        self.result_file = result_file
        categories = self._coco_api.dataset['categories']
        self.dataset_meta = dict(classes=[c['name'] for c in categories])
        self._require_valid()

    def _require_valid(self) -> None:
        try:
            records = json.loads(Path(self.result_file).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f'cannot read results {self.result_file}: {error}'
            ) from error
        wanted = {'image_id', 'category_id', 'bbox', 'score'}
        if not isinstance(records, list) or not records:
            raise UserError(
                f'{self.result_file} is not a list of at least one result'
            )
        known = {
            'image_id': set(self._coco_api.getImgIds()),
            'category_id': set(self._coco_api.getCatIds()),
        }
        for place, record in enumerate(records):
            if not isinstance(record, dict) or not wanted <= record.keys():
                raise UserError(
                    f'{self.result_file}, record {place}: expected the keys '
                    f'{sorted(wanted)}, got {record!r:.200}'
                )
            for key, allowed in known.items():
                if record[key] not in allowed:
                    raise UserError(
                        f'{self.result_file}, record {place}: {key} '
                        f'{record[key]!r} is not in {self.ann_file}'
                    )

    def results2json(self, results: list, outfile_prefix: str) -> dict:
        """Name the file that holds the results already."""
        return dict(bbox=self.result_file)

    def evaluate_file(self) -> dict[str, float]:
        """Compute the metrics of the file."""
        metrics = self.compute_metrics([(None, None)])
        return {f'{self.prefix}/{k}': v for k, v in metrics.items()}
