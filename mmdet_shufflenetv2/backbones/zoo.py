"""Every network that the ShuffleNet V2 paper compares, by published name.

A row says how to build a network and how to read its published figures, which
are in `mmdet_shufflenetv2.measure.published` under the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
        config: the backbone's config without ``out_indices``.
        last_level: the level that the classifier reads.
        input_size: image side, in pixels, of the published figures.
        choice: what this project chose where the publication is unclear.
        channels: of ``last_level``; None if the backbone has `out_channels`.
    """

    config: dict
    last_level: int
    input_size: int = 224
    choice: str | None = None
    channels: int | None = None


_V2 = dict(type='ShuffleNetV2')
_STAR = dict(type='ShuffleNetV2', receptive_field='enlarged')
_V1 = dict(type='ShuffleNetV1')
_M1, _M2 = dict(type='MobileNetV1'), dict(type='StagedMobileNetV2')
_XC, _DN = dict(type='Xception'), dict(type='DenseNet')
_CV = dict(type='PytorchcvBackbone')
# Backbone, last level and names. Names that end in a width, or a width and
# groups, set those of the backbone.
_ROWS = (
    (_V2, 3, 'shufflenet_v2_x0_5 shufflenet_v2_x1_0'),
    (_V2, 3, 'shufflenet_v2_x1_5 shufflenet_v2_x2_0'),
    (_STAR, 3, 'shufflenet_v2_star_x0_5 shufflenet_v2_star_x1_0'),
    (_STAR, 3, 'shufflenet_v2_star_x1_5 shufflenet_v2_star_x2_0'),
    (dict(_V2, with_se=True), 3, 'se_shufflenet_v2_x2_0'),
    (dict(_V2, arch='v2_50'), 4, 'shufflenet_v2_50'),
    (dict(_V2, arch='se_v2_164'), 4, 'se_shufflenet_v2_164'),
    (_V1, 2, 'shufflenet_v1_x0_5_g3 shufflenet_v1_x1_0_g3'),
    (_V1, 2, 'shufflenet_v1_x1_5_g3 shufflenet_v1_x2_0_g3'),
    (_V1, 2, 'shufflenet_v1_x0_5_g8 shufflenet_v1_x1_0_g8'),
    (_V1, 2, 'shufflenet_v1_x1_5_g8 shufflenet_v1_x2_0_g8'),
    (_V1, 2, 'shufflenet_v1_x1_0_g1 shufflenet_v1_x1_0_g2'),
    (_V1, 2, 'shufflenet_v1_x1_0_g4'),
    (dict(_V1, arch='v1_50', groups=3), 3, 'shufflenet_v1_50_g3'),
    (_M1, 4, 'mobilenet_v1_x0_25 mobilenet_v1_x0_5'),
    (_M1, 4, 'mobilenet_v1_x0_75 mobilenet_v1_x1_0'),
    (_M2, 7, 'mobilenet_v2_x0_15 mobilenet_v2_x0_4 mobilenet_v2_x0_6'),
    (_M2, 7, 'mobilenet_v2_x0_75 mobilenet_v2_x1_0 mobilenet_v2_x1_4'),
    (_XC, 2, 'xception_x0_5 xception_x1_0 xception_x1_5 xception_x2_0'),
    (_DN, 2, 'densenet_x0_5 densenet_x1_0 densenet_x1_5 densenet_x2_0'),
    (dict(type='IGCV2', widen_factor=0.25), 4, 'igcv2_0_25'),
    (dict(type='IGCV2', widen_factor=0.5), 4, 'igcv2_0_5'),
    (dict(type='IGCV2', widen_factor=1.0), 4, 'igcv2_1_0'),
    (dict(_CV, arch='igcv3_d_x0_7'), 4, 'igcv3_d_0_7'),
    (dict(_CV, arch='igcv3_d_x1_0'), 4, 'igcv3_d_1_0'),
    (dict(_CV, arch='igcv3_d_x1_4'), 4, 'igcv3_d_1_4'),
    (dict(_CV, arch='condensenet_g8_c8'), 3, 'condensenet_g8_c8'),
    (dict(_CV, arch='condensenet_g4_c4'), 3, 'condensenet_g4_c4'),
    (dict(_CV, arch='nasnet_a_4_1056'), 3, 'nasnet_a_4_1056'),
    (dict(type='PNASNet', arch='mobile'), 3, 'pnasnet_5'),
    (dict(_CV, arch='senet_154'), 3, 'senet'),
    (dict(type='ResNet', depth=50, style='caffe'), 3, 'resnet_50'),
)
# Start of a name -> `Network.choice`.
_CHOICES = {
    'shufflenet_v1_50': 'as described: bottleneck 1:4 and 3 groups; 1:2 would '
    "have 2396 million, and no groups in the first of a unit's two pointwise "
    'convolutions 2430',
    'mobilenet_v2_x0': 'channels rounded up, 16 in the first layer; in '
    'multiples of 8, as elsewhere, the FLOPs would be 30.6, 41.8, 151.0 and '
    '153.9 million',
    'xception': 'unit and stem, of which only the stages and the receptive '
    'field are published',
    'resnet': "style='caffe', whose FLOPs are the published ones",
    'densenet': 'units, growth rates and no conv5, of which only the layout '
    "of ShuffleNet V2's Table 5 is published",
    'igcv2': 'width and groups, which were found from the published FLOPs',
    'igcv3_d_0_7': 'all channels times 0.7; how else the published network '
    'was made smaller, perhaps by fewer units, is not known',
    'igcv3_d_1_4': "channels in multiples of 8, as MobileNet V2's; in even "
    'numbers the FLOPs would be 582 million',
    'condensenet': 'the published FLOPs count 12.7 million activations and '
    'additions in poolings, and a classifier of half the channels',
}
_FACTS = {
    'mobilenet_v2_x0_4': dict(input_size=160),
    'mobilenet_v2_x0_75': dict(input_size=192),
    'resnet_50': dict(channels=2048),
}


def _network(name: str, backbone: dict, last_level: int) -> Network:
    width, _, groups = name.partition('_x')[2].partition('_g')
    config = dict(backbone)
    if width:
        config['widen_factor'] = float(width.replace('_', '.'))
    if groups:
        config['groups'] = int(groups)
    choices = (c for start, c in _CHOICES.items() if name.startswith(start))
    choice = next(choices, None)
    return Network(config, last_level, choice=choice, **_FACTS.get(name, {}))


NETWORKS = {
    name: _network(name, backbone, last_level)
    for backbone, last_level, names in _ROWS
    for name in names.split()
}


def network(name: str) -> Network:
    """The row of a network; ValueError if the name is unknown."""
    if not isinstance(name, str) or name not in NETWORKS:
        near = get_close_matches(str(name), NETWORKS, n=3)
        choices = ', '.join(near or NETWORKS)
        raise ValueError(
            f'network: expected a published name such as {choices}, got '
            f'{name!r}'
        )
    return NETWORKS[name]


def network_of(backbone: Mapping) -> str | None:
    """The published name of a config's backbone, or None."""
    # Options that do not change the network.
    options = 'out_indices frozen_stages norm_eval with_cp channels_last'
    others = (*options.split(), 'init_cfg')
    config = {k: v for k, v in backbone.items() if k not in others}
    # Frozen or synchronised BN is still the row's.
    if (config.get('norm_cfg') or {}).get('type') in ('BN', 'SyncBN'):
        del config['norm_cfg']
    # In this package the style only decides whose weights fit. In mmdet's
    # ResNet, whose row states it, it decides which layers have the strides.
    plain = {k: v for k, v in config.items() if k != 'style'}
    for name, row in NETWORKS.items():
        if row.config == (config if 'style' in row.config else plain):
            return name
    return None


class Classifier(nn.Module):
    """A backbone, global average pooling and a linear layer.

    Published FLOPs, parameters and speeds refer to this. ``channels`` are the
    last level's; needed if the backbone has no ``out_channels``.
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
    """Build the untrained classifier of a published name.

    Under ``with torch.device('meta')`` this takes almost no time or memory.
    """
    row = network(name)
    config = dict(row.config, out_indices=(row.last_level,))
    return Classifier(MODELS.build(config), num_classes, row.channels)


def family_in(config: Mapping) -> str | None:
    """The weight family of a config's backbone; None if it is not ours."""
    kind = MODELS.get(config['type'])
    return kind.family_in(config) if hasattr(kind, 'family_in') else None


@cache
def outlined(network: str, style: str | None = None) -> nn.Module:
    """A network's backbone with all levels, on the meta device.

    Cached and shared, so callers must not change it.
    """
    row = NETWORKS[network]
    config = dict(row.config, out_indices=(row.last_level,))
    # Not MODELS.build, which may prefer another project's registry.
    kind = MODELS.get(config.pop('type'))
    if style in getattr(kind, 'styles', ()):
        config['style'] = style
    with torch.device('meta'):
        return kind(**config)
