"""Every network the ShuffleNet V2 paper compares, by its published name.

A row says how to build a network and what is to be known about its published
figures, which are in `mmdet_shufflenetv2.published` under the same name.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches

import torch.nn as nn
from mmdet.registry import MODELS
from torch import Tensor


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        config: the backbone, as ``MODELS.build`` takes it, without
            ``out_indices``.
        last_level: the level that the classifier reads; all levels are
            ``range(last_level + 1)``.
        input_size: side of the image that the figures were published for.
        choice: what the publication leaves open and was chosen here, why.
        mflops: multiply-adds in millions where they are more than 3 % off
            the published ones; ``choice`` says why.
        params_m: parameters in millions, likewise.
    """

    config: dict
    last_level: int
    input_size: int = 224
    choice: str | None = None
    mflops: float | None = None
    params_m: float | None = None


@dataclass(frozen=True)
class _Rows:
    """Networks of one type, which differ in some of its arguments."""

    type: str
    last_level: int
    options: dict = field(default_factory=dict)

    def __call__(self, *, input_size: int = 224, **options) -> Network:
        config = dict(type=self.type, **self.options, **options)
        return Network(config, self.last_level, input_size)


_v2 = _Rows('ShuffleNetV2', 3)
_v2_star = _Rows('ShuffleNetV2', 3, dict(receptive_field='enlarged'))

NETWORKS = {
    'shufflenet_v2_x0_5': _v2(widen_factor=0.5),
    'shufflenet_v2_x1_0': _v2(widen_factor=1.0),
    'shufflenet_v2_x1_5': _v2(widen_factor=1.5),
    'shufflenet_v2_x2_0': _v2(widen_factor=2.0),
    'shufflenet_v2_star_x0_5': _v2_star(widen_factor=0.5),
    'shufflenet_v2_star_x1_0': _v2_star(widen_factor=1.0),
    'shufflenet_v2_star_x1_5': _v2_star(widen_factor=1.5),
    'shufflenet_v2_star_x2_0': _v2_star(widen_factor=2.0),
    'se_shufflenet_v2_x2_0': _v2(widen_factor=2.0, with_se=True),
    'shufflenet_v2_50': _Rows('ShuffleNetV2', 4)(arch='v2_50'),
    'se_shufflenet_v2_164': _Rows('ShuffleNetV2', 4)(arch='se_v2_164'),
}


def network(name: str) -> Network:
    """The row of a network.

    Raises:
        ValueError: no network has that name.
    """
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, n=3)
        choices = ', '.join(near or NETWORKS)
        raise ValueError(
            f'network must be a published name such as {choices}, got {name!r}'
        )
    return NETWORKS[name]


class Classifier(nn.Module):
    """A backbone, the mean over its last level, and a linear layer.

    It is what published FLOPs, parameters and speeds are those of.

    Args:
        backbone: returns a tuple of maps, the last of which is classified.
        num_classes: values per image.
    """

    def __init__(self, backbone: nn.Module, num_classes: int = 1000):
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(backbone.out_channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, num_classes) of images (N, 3, H, W)."""
        return self.fc(self.pool(self.backbone(x)[-1]).flatten(1))


def build_classifier(name: str, num_classes: int = 1000) -> Classifier:
    """The classification network of a published name, not yet trained.

    Under ``with torch.device('meta')`` it costs neither time nor memory.

    Raises:
        ValueError: no network has that name.
    """
    row = network(name)
    config = dict(row.config, out_indices=(row.last_level,))
    return Classifier(MODELS.build(config), num_classes)
