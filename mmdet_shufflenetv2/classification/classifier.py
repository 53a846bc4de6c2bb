"""A published network as mmpretrain's classifier."""

from mmdet.registry import MODELS as BACKBONES
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS

from ..backbones import zoo


@MODELS.register_module()
class PublishedClassifier(ImageClassifier):
    """One of the networks of `mmdet_shufflenetv2.backbones.zoo`.

    Its weights are named ``backbone.*``, as those of a detector are, so that
    ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
    takes them over.

    Args:
        network: published name, such as ``'shufflenet_v2_x1_0'``.
        head: config of a linear head; its ``in_channels`` are those of the
            network's last level.
        backbone: arguments of the backbone besides those of the zoo, such
            as ``init_cfg``; one of the zoo's makes it another network.
        kwargs: those of ``ImageClassifier``.

    Raises:
        ValueError: no network has that name, or ``backbone`` returns other
            levels than the last.
    """

    def __init__(
        self,
        network: str,
        head: dict,
        backbone: dict | None = None,
        **kwargs,
    ):
        row = zoo.network(network)
        levels = (row.last_level,)
        config = {**row.config, 'out_indices': levels, **(backbone or {})}
        if config['out_indices'] not in (levels, list(levels)):
            raise ValueError(
                f'backbone.out_indices of {network} must be {levels}, the '
                'level that is classified, or left out, got '
                f'{config["out_indices"]!r}'
            )
        # mmpretrain has networks of the same names.
        config['type'] = f'mmdet.{config["type"]}'
        built = BACKBONES.build(config)
        channels = row.channels or built.out_channels[-1]
        super().__init__(
            backbone=built, head=dict(head, in_channels=channels), **kwargs
        )
