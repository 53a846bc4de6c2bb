"""Classification pretraining with mmpretrain: the model and its metric.

Only the ``custom_imports`` of ``configs/pretrain.py`` import this module,
because it needs mmpretrain.
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

    The backbone's weights are named ``backbone.*``, as in a detector.

    Args:
        network: Published name, such as ``'shufflenet_v2_x1_0'``.
        head: Config of a linear head; its ``in_channels`` are set to those of
            the network's last level.
        backbone: Additional arguments of the backbone, such as ``init_cfg``.
            They override those of the zoo, which gives another network.
        kwargs: Arguments of ``ImageClassifier``.
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
        # mmpretrain registers networks with the same names.
        config['type'] = f'mmdet.{config["type"]}'
        built = BACKBONES.build(config)
        channels = row.channels or built.out_channels[-1]
        super().__init__(
            backbone=built, head=dict(head, in_channels=channels), **kwargs
        )
        self.network_name = network


@METRICS.register_module()
class ClassificationError(Accuracy):
    """Top-k error in %, logged next to the published error.

    Args:
        topk: Values of k; those above the number of classes are skipped.
        published: Published errors in % by k, such as ``{1: 30.6}``.
        kwargs: Arguments of mmpretrain's ``Accuracy``.
    """

    default_prefix = 'error'

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        published: dict[int, float] | None = None,
        **kwargs,
    ):
        # A threshold would count a correct class of probability 0 as wrong.
        super().__init__(topk=topk, thrs=None, **kwargs)
        self.published = published or {}

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute ``top<k>`` errors in % from the results of all images."""
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
