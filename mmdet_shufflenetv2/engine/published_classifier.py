"""Classification pretraining on mmpretrain: the network and its measure.

Nothing but ``configs/pretrain.py`` imports this module, and mmpretrain with
it, by ``custom_imports``.
"""

from collections.abc import Sequence

from mmdet.registry import MODELS as BACKBONES
from mmengine.logging import print_log
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import METRICS, MODELS

from ..backbones import zoo


@MODELS.register_module()
class PublishedClassifier(ImageClassifier):
    """One of the networks of `mmdet_shufflenetv2.backbones.zoo`.

    Its weights are named ``backbone.*``, as those of a detector are.

    Args:
        network: Published name, such as ``'shufflenet_v2_x1_0'``.
        head: Config of a linear head; its ``in_channels`` are those of the
            network's last level.
        backbone: Arguments of the backbone besides those of the zoo, such as
            ``init_cfg``; one of the zoo's makes it another network.
        kwargs: Those of ``ImageClassifier``.
    """

    def __init__(
        self,
        network: str,
        head: dict,
        backbone: dict | None = None,
        **kwargs,
    ):
        row = zoo.network(network)
        config = {
            **row.config,
            **(backbone or {}),
            'out_indices': (row.last_level,),
        }
        # mmpretrain has networks of the same names.
        config['type'] = f'mmdet.{config["type"]}'
        built = BACKBONES.build(config)
        channels = row.channels or built.out_channels[-1]
        super().__init__(
            backbone=built, head=dict(head, in_channels=channels), **kwargs
        )


@METRICS.register_module()
class ClassificationError(Accuracy):
    """Top-k error in %, logged beside the published one.

    Args:
        topk: Which k; those above the number of classes are left out.
        published: Published errors in % by k, such as ``{1: 30.6}``.
        kwargs: Those of mmpretrain's ``Accuracy``.
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
        self.published = published or {}

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Give ``top<k>`` in % out of what was kept of each image."""
        classes = len(results[0]['pred_score'])
        self.topk = tuple(k for k in self.topk if k <= classes)
        metrics = super().compute_metrics(results)
        errors = {name: 100 - value for name, value in metrics.items()}
        for k in self.topk:
            if k in self.published:
                print_log(
                    f'top-{k} error {errors[f"top{k}"]:.2f} % (published: '
                    f'{self.published[k]:.2f} %)',
                    'current',
                )
        return errors
