"""How networks' weights are named where they are published.

A format is recognised by its keys. One table, from our modules' names to
theirs, translates in both directions; the values stay as they are, because
the networks are numerically the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .input_format import NORMALISED_RGB, RAW_BGR, InputFormat


@dataclass(frozen=True, eq=False)
class CheckpointFormat:
    """A way to name a network's weights.

    Attributes:
        name: short, as a command line takes it.
        title: what to call it in messages.
        signature: patterns; each one matches some key of such a file.
        absent: patterns; none of them matches any key of such a file.
        modules: our module -> theirs, of every module that has weights, or
            what gives it when a name is first asked for; None where the
            names are the same.
        networks: those of `mmdet_shufflenetv2.backbones.zoo` that the
            project has with the same layers and widths, all of which
            ``modules`` names; None for every one of the family's.
        classifier: their name of the linear layer in a whole file.
        classifier_bias: whether that layer has one.
        only_backbone: what keeps their classifier from being a linear layer
            over all channels, as a part of a sentence; None if it is one.
        prefix: in front of the backbone's keys in a whole file.
        wrapped: the file has the weights under ``'state_dict'``.
        input_format: what the weights expect of ``data_preprocessor``; None
            where the file's meta data say it.
        style: the ``style`` of network that such weights fit; None for any.
    """

    name: str
    title: str
    signature: tuple[str, ...]
    modules: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = (
        field(default=None, repr=False)
    )
    networks: tuple[str, ...] | None = None
    classifier: str = 'fc'
    classifier_bias: bool = True
    only_backbone: str | None = None
    prefix: str = ''
    wrapped: bool = False
    input_format: InputFormat | None = None
    style: str | None = None
    absent: tuple[str, ...] = ()

    def recognises(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is in this format."""
        keys = list(keys)

        def found(pattern: str) -> bool:
            return any(re.match(pattern, key) for key in keys)

        return all(map(found, self.signature)) and not any(
            map(found, self.absent)
        )

    def has(self, network: str) -> bool:
        """Whether the project has a network of the family, by our name."""
        return self.networks is None or network in self.networks

    def to_ours(self, key: str) -> str | None:
        """Our name of a backbone's weight; None if there is none."""
        return _exchanged(key, self._inverse)

    def to_theirs(self, key: str) -> str | None:
        """Their name of a backbone's weight; None if there is none."""
        return _exchanged(key, self._names)

    @cached_property
    def _names(self) -> Mapping[str, str] | None:
        return self.modules() if callable(self.modules) else self.modules

    @cached_property
    def _inverse(self) -> dict[str, str] | None:
        if self._names is None:
            return None
        return {theirs: ours for ours, theirs in self._names.items()}


def _exchanged(key: str, modules: Mapping[str, str] | None) -> str | None:
    if modules is None:
        return key
    module, _, parameter = key.rpartition('.')
    return f'{modules[module]}.{parameter}' if module in modules else None


# ShuffleNet V2: units per stage (Table 5), and the layers of a unit; only a
# stage's first unit has branch1. A layer is a convolution and its norm.
UNITS = {2: 4, 3: 8, 4: 4}
LAYERS = (
    *('branch1.depthwise', 'branch1.pointwise'),
    *('branch2.pointwise1', 'branch2.depthwise', 'branch2.pointwise2'),
)
# Places in a branch that is a Sequential with its activations.
PLACES = ((0, 1), (2, 3), (0, 1), (3, 4), (5, 6))

ConvAndNorm = tuple[str, str]


def _shufflenet_v2(
    stem: ConvAndNorm,
    conv5: ConvAndNorm,
    unit_layer: Callable[[int, int, int], ConvAndNorm],
) -> dict[str, str]:
    """Our modules' names -> theirs.

    Args:
        stem, conv5: their names.
        unit_layer: gives theirs for a stage, a unit's number in it and a
            layer's number.
    """
    layers = {'stem.conv1': stem, 'conv5.0': conv5}
    for stage, count in UNITS.items():
        for unit in range(count):
            for number, name in enumerate(LAYERS):
                if unit == 0 or name.startswith('branch2'):
                    home = f'stage{stage}.{unit}.{name}'
                    layers[home] = unit_layer(stage, unit, number)
    return of_layers(layers)


def of_layers(layers: Mapping[str, ConvAndNorm]) -> dict[str, str]:
    """Our modules' names -> theirs, of layers of a convolution and a norm."""
    return {
        f'{ours}.{kind}': theirs
        for ours, pair in layers.items()
        for kind, theirs in zip(('conv', 'bn'), pair, strict=True)
    }


def numbered(home: str) -> ConvAndNorm:
    return f'{home}.0', f'{home}.1'


def named(home: str) -> ConvAndNorm:
    return f'{home}.conv', f'{home}.bn'


def _torchvision_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    branch = LAYERS[number].partition('.')[0]
    conv, norm = PLACES[number]
    home = f'stage{stage}.{unit}.{branch}'
    return f'{home}.{conv}', f'{home}.{norm}'


def _authors_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    # Units are numbered through.
    through = unit + sum(UNITS[s] for s in UNITS if s < stage)
    branch = 'proj' if LAYERS[number].startswith('branch1') else 'main'
    conv, norm = PLACES[number]
    home = f'features.{through}.branch_{branch}'
    return f'{home}.{conv}', f'{home}.{norm}'


def _mmpretrain_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    branch, place = (
        ('branch1', number)
        if number < 2
        else (
            'branch2',
            number - 2,
        )
    )
    return named(f'layers.{stage - 2}.{unit}.{branch}.{place}')


def _pytorchcv_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    names = ('shortcut_dconv', 'shortcut_conv', 'conv1', 'dconv', 'conv2')
    return named(f'features.stage{stage - 1}.unit{unit + 1}.{names[number]}')


def own_format(*patterns: str) -> CheckpointFormat:
    """This package's names, of networks that have such keys."""
    return CheckpointFormat(
        'mmdet_shufflenetv2',
        'mmdet_shufflenetv2',
        tuple(rf'(backbone\.)?{each}' for each in (r'stem\.', *patterns)),
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
    )


OWN_FORMAT = own_format()
# Neither the deeper networks nor those with other units are elsewhere.
V2_WIDTHS = tuple(
    f'shufflenet_v2_x{width}' for width in ('0_5', '1_0', '1_5', '2_0')
)
SHUFFLENET_V2_FORMATS = (
    own_format(r'stage\d\.0\.branch2\.'),
    CheckpointFormat(
        'torchvision',
        'torchvision',
        (r'conv1\.0\.weight', r'stage2\.0\.branch1\.0\.weight'),
        _shufflenet_v2(
            numbered('conv1'), numbered('conv5'), _torchvision_layer
        ),
        networks=V2_WIDTHS,
        input_format=NORMALISED_RGB,
        style='torchvision',
    ),
    CheckpointFormat(
        'authors',
        "ShuffleNet-Series (the authors')",
        (r'first_conv\.0\.weight', r'features\.0\.branch_main\.0\.weight'),
        _shufflenet_v2(
            numbered('first_conv'), numbered('conv_last'), _authors_layer
        ),
        networks=V2_WIDTHS,
        classifier='classifier.0',
        classifier_bias=False,
        wrapped=True,
        input_format=RAW_BGR,
        style='authors',
    ),
    CheckpointFormat(
        'mmpretrain',
        'mmpretrain',
        (
            r'(backbone\.)?conv1\.conv\.weight',
            r'(backbone\.)?layers\.0\.0\.branch1\.0\.conv\.weight',
        ),
        _shufflenet_v2(named('conv1'), named('layers.3'), _mmpretrain_layer),
        networks=V2_WIDTHS,
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
        input_format=NORMALISED_RGB,
        style='torchvision',
    ),
    # Its shufflenetv2b at 0.5x; the other widths mix both styles, and its
    # shufflenetv2 pools at other places.
    CheckpointFormat(
        'pytorchcv',
        'pytorchcv (shufflenetv2b)',
        (
            r'features\.init_block\.conv\.conv\.weight',
            r'features\.stage1\.unit1\.shortcut_dconv\.conv\.weight',
        ),
        _shufflenet_v2(
            named('features.init_block.conv'),
            named('features.final_block'),
            _pytorchcv_layer,
        ),
        networks=V2_WIDTHS[:1],
        classifier='output',
        input_format=NORMALISED_RGB,
        style='torchvision',
    ),
)
