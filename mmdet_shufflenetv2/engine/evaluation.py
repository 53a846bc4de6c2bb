"""COCO evaluation: what ``tools/test.py`` asks of mmdet's metric."""

import json
from pathlib import Path

from mmengine.config import ConfigDict

from ..data import BoxMetric
from .run_config import UsageError

# pycocotools defines AP at 100 boxes; mmdet names recall at up to 1000.
BOXES_PER_IMAGE = {'bbox': (1, 10, 100), 'proposal': (100, 300, 1000)}


def coco_metrics(
    base: ConfigDict, words: list[str], outfile_prefix: str | None = None
) -> list[ConfigDict]:
    """Make one metric config for each word of ``--eval``.

    Args:
        base: A ``CocoMetric`` config.
        words: ``'bbox'`` and / or ``'proposal'`` (recall of the detections
            whatever their class).
        outfile_prefix: Where the metrics leave ``<prefix>.bbox.json``.

    Returns:
        The configs, in the order of the words, one of each.
    """
    return [
        ConfigDict(
            base,
            metric=word,
            proposal_nums=BOXES_PER_IMAGE[word],
            outfile_prefix=outfile_prefix,
        )
        for word in dict.fromkeys(words)
    ]


class ResultFileMetric(BoxMetric):
    """mmdet's COCO metric over a result file that was written before.

    Args:
        result_file: COCO-format results, a JSON list of records with
            ``image_id``, ``category_id``, ``bbox`` and ``score``.
        kwargs: Those of ``CocoMetric``.

    Raises:
        UsageError: If the file is no such list or knows other images.
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
            raise UsageError(
                f'cannot read results {self.result_file}: {error}'
            ) from error
        wanted = {'image_id', 'category_id', 'bbox', 'score'}
        if not isinstance(records, list) or not records:
            raise UsageError(f'{self.result_file} holds no list of results')
        images = set(self._coco_api.getImgIds())
        for place, record in enumerate(records):
            if not isinstance(record, dict) or not wanted <= record.keys():
                raise UsageError(
                    f'{self.result_file}, record {place}: expected the keys '
                    f'{sorted(wanted)}, got {record!r:.200}'
                )
            if record['image_id'] not in images:
                raise UsageError(
                    f'{self.result_file}, record {place}: image_id '
                    f'{record["image_id"]!r} is not in {self.ann_file}'
                )

    def results2json(self, results: list, outfile_prefix: str) -> dict:
        """Name the file that holds the results already."""
        return dict(bbox=self.result_file, proposal=self.result_file)

    def evaluate_file(self) -> dict[str, float]:
        """Compute the metrics of the file."""
        metrics = self.compute_metrics([(None, None)])
        return {f'{self.prefix}/{k}': v for k, v in metrics.items()}
