"""The measure that the ShuffleNet papers report."""

from collections.abc import Sequence

from mmengine.logging import print_log
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS


@METRICS.register_module()
class ClassificationError(Accuracy):
    """Top-k error in %, logged beside the published one.

    Args:
        topk: which k; those above the number of classes are left out.
        published: published errors in % by k, such as ``{1: 30.6}``.
        kwargs: those of mmpretrain's ``Accuracy``.
    """

    default_prefix = 'error'

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        published: dict[int, float] | None = None,
        **kwargs,
    ):
        # A threshold would count a right guess of probability 0 as wrong.
        super().__init__(topk=topk, thrs=None, **kwargs)
        self.published = published

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Give ``top<k>`` in % out of what was kept of each image."""
        classes = len(results[0]['pred_score'])
        self.topk = tuple(k for k in self.topk if k <= classes)
        metrics = super().compute_metrics(results)
        errors = {name: 100 - value for name, value in metrics.items()}
        if self.published is not None:
            print_log(self._beside_published(errors), 'current')
        return errors

    def _beside_published(self, errors: dict[str, float]) -> str:
        rows = []
        for k in self.topk:
            published = self.published.get(k)
            rows.append(
                f'top-{k} error {errors[f"top{k}"]:.2f} % (published: '
                + ('none' if published is None else f'{published:.2f} %')
                + ')'
            )
        return ', '.join(rows)
