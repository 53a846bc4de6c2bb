"""Every network the ShuffleNet V2 paper compares, by its published name.

A row says how to build a network and what is to be known about its published
figures, which are in `mmdet_shufflenetv2.paper.published` under the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache

import torch
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
        channels: what the classifier reads, of a backbone that does not
            tell by its ``out_channels``.
    """

    config: dict
    last_level: int
    input_size: int = 224
    choice: str | None = None
    mflops: float | None = None
    params_m: float | None = None
    channels: int | None = None


@dataclass(frozen=True)
class _Rows:
    """Networks of one type, which differ in some of its arguments."""

    type: str
    last_level: int
    options: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)

    def __call__(self, **options) -> Network:
        config = dict(type=self.type, **self.options, **options)
        return Network(config, self.last_level, **self.facts)

    def known(self, **facts) -> '_Rows':
        """The same rows, with more of a `Network`'s attributes."""
        return replace(self, facts={**self.facts, **facts})


_v2 = _Rows('ShuffleNetV2', 3)
_v2_star = _Rows('ShuffleNetV2', 3, dict(receptive_field='enlarged'))
_v2_deep = _Rows('ShuffleNetV2', 4)
_v1 = _Rows('ShuffleNetV1', 2)
_v1_50 = _Rows('ShuffleNetV1', 3).known(
    mflops=1211,
    choice='as described: bottleneck 1:4 and 3 groups; 1:2 would have 2396 '
    "million, and no groups in the first of a unit's two pointwise "
    'convolutions 2430',
)
_mobilenet_v1 = _Rows('MobileNetV1', 4)
_mobilenet_v2 = _Rows('StagedMobileNetV2', 7)
_mobilenet_v2_narrow = _mobilenet_v2.known(
    choice='channels rounded up, 16 in the first layer; in multiples of 8, '
    'as elsewhere, the FLOPs would be 30.6, 41.8, 151.0 and 153.9 million',
)
_xception = _Rows('Xception', 2).known(
    choice='unit and stem, of which only the stages and the receptive field '
    'are published'
)
_resnet = _Rows('ResNet', 3).known(
    channels=2048, choice="style='caffe', whose FLOPs are the published ones"
)
_densenet = _Rows('DenseNet', 2).known(
    choice='units, growth rates and no conv5, of which only the layout of '
    "ShuffleNet V2's Table 5 is published"
)
_igcv2 = _Rows('IGCV2', 4).known(
    choice='width and groups, which were found from the published FLOPs'
)
_igcv3_d = _Rows('PytorchcvBackbone', 4)
_condensenet = _Rows('PytorchcvBackbone', 3).known(
    choice='the published FLOPs count 12.7 million activations and additions '
    'in poolings, and a classifier of half the channels'
)
_pytorchcv = _Rows('PytorchcvBackbone', 3)

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
    'shufflenet_v2_50': _v2_deep(arch='v2_50'),
    'se_shufflenet_v2_164': _v2_deep(arch='se_v2_164'),
    'shufflenet_v1_x0_5_g3': _v1(widen_factor=0.5, groups=3),
    'shufflenet_v1_x1_0_g3': _v1(widen_factor=1.0, groups=3),
    'shufflenet_v1_x1_5_g3': _v1(widen_factor=1.5, groups=3),
    'shufflenet_v1_x2_0_g3': _v1(widen_factor=2.0, groups=3),
    'shufflenet_v1_x0_5_g8': _v1(widen_factor=0.5, groups=8),
    'shufflenet_v1_x1_0_g8': _v1(widen_factor=1.0, groups=8),
    'shufflenet_v1_x1_5_g8': _v1(widen_factor=1.5, groups=8),
    'shufflenet_v1_x2_0_g8': _v1(widen_factor=2.0, groups=8),
    'shufflenet_v1_x1_0_g1': _v1(widen_factor=1.0, groups=1),
    'shufflenet_v1_x1_0_g2': _v1(widen_factor=1.0, groups=2),
    'shufflenet_v1_x1_0_g4': _v1(widen_factor=1.0, groups=4),
    'shufflenet_v1_50_g3': _v1_50(arch='v1_50', groups=3),
    'mobilenet_v1_x0_25': _mobilenet_v1(widen_factor=0.25),
    'mobilenet_v1_x0_5': _mobilenet_v1(widen_factor=0.5),
    'mobilenet_v1_x0_75': _mobilenet_v1(widen_factor=0.75),
    'mobilenet_v1_x1_0': _mobilenet_v1(widen_factor=1.0),
    'mobilenet_v2_x0_15': _mobilenet_v2_narrow(widen_factor=0.15),
    'mobilenet_v2_x0_4': _mobilenet_v2_narrow.known(input_size=160)(
        widen_factor=0.4
    ),
    'mobilenet_v2_x0_6': _mobilenet_v2_narrow(widen_factor=0.6),
    'mobilenet_v2_x0_75': _mobilenet_v2_narrow.known(input_size=192)(
        widen_factor=0.75
    ),
    'mobilenet_v2_x1_0': _mobilenet_v2(widen_factor=1.0),
    'mobilenet_v2_x1_4': _mobilenet_v2(widen_factor=1.4),
    'xception_x0_5': _xception(widen_factor=0.5),
    'xception_x1_0': _xception(widen_factor=1.0),
    'xception_x1_5': _xception(widen_factor=1.5),
    'xception_x2_0': _xception(widen_factor=2.0),
    'densenet_x0_5': _densenet(widen_factor=0.5),
    'densenet_x1_0': _densenet(widen_factor=1.0),
    'densenet_x1_5': _densenet(widen_factor=1.5),
    'densenet_x2_0': _densenet(widen_factor=2.0),
    'igcv2_0_25': _igcv2(widen_factor=0.25),
    'igcv2_0_5': _igcv2(widen_factor=0.5),
    'igcv2_1_0': _igcv2(widen_factor=1.0),
    'igcv3_d_0_7': _igcv3_d.known(
        mflops=177.5,
        choice='all channels times 0.7; how else the published network was '
        'made smaller, perhaps by fewer units, is not known',
    )(arch='igcv3_d_x0_7'),
    'igcv3_d_1_0': _igcv3_d(arch='igcv3_d_x1_0'),
    'igcv3_d_1_4': _igcv3_d.known(
        choice="channels in multiples of 8, as MobileNet V2's; in even "
        'numbers the FLOPs would be 582 million'
    )(arch='igcv3_d_x1_4'),
    'condensenet_g8_c8': _condensenet.known(mflops=262.6)(
        arch='condensenet_g8_c8'
    ),
    'condensenet_g4_c4': _condensenet(arch='condensenet_g4_c4'),
    'nasnet_a_4_1056': _pytorchcv(arch='nasnet_a_4_1056'),
    'pnasnet_5': _Rows('PNASNet', 3)(arch='mobile'),
    'senet': _pytorchcv(arch='senet_154'),
    'resnet_50': _resnet(depth=50, style='caffe'),
}


def network(name: str) -> Network:
    """The row of a network.

    Raises:
        ValueError: no network has that name.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        near = get_close_matches(str(name), NETWORKS, n=3)
        choices = ', '.join(near or NETWORKS)
        raise ValueError(
            f'network must be a published name such as {choices}, got {name!r}'
        )
    return NETWORKS[name]


# Arguments of a backbone that leave the network it is as it is.
_NOT_THE_NETWORK = {
    'out_indices',
    'frozen_stages',
    'norm_eval',
    'with_cp',
    'channels_last',
    'init_cfg',
}


def network_of(backbone: Mapping) -> str | None:
    """The published name of the network that a backbone is, if any.

    Args:
        backbone: as in a config.
    """
    config = {k: v for k, v in backbone.items() if k not in _NOT_THE_NETWORK}
    # Frozen or synchronised, it is the batch norm that the row means.
    if (config.get('norm_cfg') or {}).get('type') in ('BN', 'SyncBN'):
        del config['norm_cfg']
    # Whose order of channels it has, in this package; mmdet's ResNet has
    # its strides in other layers.
    plain = {k: v for k, v in config.items() if k != 'style'}
    for name, row in NETWORKS.items():
        if row.config == (config if 'style' in row.config else plain):
            return name
    return None


class Classifier(nn.Module):
    """A backbone, the mean over its last level, and a linear layer.

    It is what published FLOPs, parameters and speeds are those of.

    Args:
        backbone: returns a tuple of maps, the last of which is classified.
        num_classes: values per image.
        channels: of that map; None means as the backbone tells.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int = 1000,
        channels: int | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels or backbone.out_channels[-1], num_classes)

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
    return Classifier(MODELS.build(config), num_classes, row.channels)


# A weight's name and shape.
Entry = tuple[str | None, tuple[int, ...]]


def network_like(
    kind: type, shapes: Mapping[str | None, tuple[int, ...]], style: str | None
) -> str | None:
    """The smallest network that has all of these weights.

    A detector's backbone lacks the last levels.

    Args:
        kind: class of backbone.
        shapes: of the weights, by this package's names; None for a name
            that there is not.
        style: of the networks, for classes that have one; None means the
            class's own choice.

    Returns:
        Its name in `NETWORKS`; None if there is no such network.
    """
    wanted = {(name, tuple(shape)) for name, shape in shapes.items()}
    sizes = {}
    for name, row in NETWORKS.items():
        if MODELS.get(row.config['type']) is kind:
            entries = entries_of(name, style)
            if wanted <= entries:
                sizes[name] = len(entries)
    return min(sizes, key=sizes.get, default=None)


@cache
def entries_of(network: str, style: str | None) -> frozenset[Entry]:
    """All weights of a published network, without the classifier."""
    weights = outlined(network, style).state_dict()
    return frozenset((k, tuple(v.shape)) for k, v in weights.items())


def outlined(network: str, style: str | None) -> nn.Module:
    """A published network's backbone with all its levels, without values.

    Args:
        network: its name in `NETWORKS`.
        style: as for `network_like`.
    """
    row = NETWORKS[network]
    config = dict(row.config, out_indices=(row.last_level,))
    if style:
        config['style'] = style
    # Not by the registry, which may look into another project's first.
    kind = MODELS.get(config.pop('type'))
    with torch.device('meta'):
        return kind(**config)
