"""How published weights are named: one table.

A row of `FORMATS` describes how one project names the weights of one family.
Files are recognised by patterns of keys, and pairs of templates, theirs and
ours, translate module names in both directions. Values do not change, because
the networks are numerically the same. Names without a row load in order
(`backbones.pretrained`). A row adds what the order cannot: the input that the
weights expect, the style of their channels, and the names to write.

In a template, ``{s}`` is the number of a stage, ``{u}`` that of a unit in its
stage and ``{n}`` that of a unit in the network; ``{u+1}`` and the like are
offset. ``{a|b}`` pairs with the alternative at the same place on the other
side, and ``{a|b}.{c|d}`` is short for ``{a.c|a.d|b.c|b.d}``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product

from .input_format import NORMALISED_RGB, RAW_BGR, SCALED_BGR, InputFormat

OURS = 'mmdet_shufflenetv2'
# Key prefixes in files of a backbone, a detector and a Lightning module.
USUAL_PREFIXES = ['', 'backbone.', 'model.backbone.']


def _alternatives(template: str) -> list[str]:
    """Expand a template's alternatives, in order."""
    pieces = re.split(r'\{([^}]*\|[^}]*)\}', template)
    choices = (
        piece.split('|') if i % 2 else [piece]
        for i, piece in enumerate(pieces)
    )
    return list(map(''.join, product(*choices)))


def _places(units: tuple[int, ...], first: int) -> list[dict[str, int]]:
    """The values of a template's fields, for every unit."""
    pairs = [(s, u) for s, n in enumerate(units, first) for u in range(n)]
    return [
        {'s': s, 's-1': s - 1, 's-2': s - 2, 'u': u, 'u+1': u + 1}
        | {'n': n, 'n+1': n + 1}
        for n, (s, u) in enumerate(pairs)
    ]


@dataclass(frozen=True, eq=False)
class WeightFormat:
    """How one project names the weights of one family.

    A file has this format if it has modules that match the first alternatives
    of the first two templates, and keys that match each pattern.

    Attributes:
        name: the project, as on the command line.
        theirs, ours: paired templates of module names.
        signature: regular expressions of keys.
        title: the name in messages; None means `name`.
        units: units per stage; the default exceeds every network's.
        their_units: the same of theirs, if they divide stages differently.
        first: the number of the first stage.
        modules: returns our name -> theirs, instead of templates.
        networks: those of `backbones.zoo` that can be written; None for all.
        classifier: the linear layer in a file of a whole network; None if
            it does not read all channels.
        prefix: of the backbone's keys in such a file.
        wrapped: whether the file has the weights under 'state_dict'.
        input_format: the expected input; None if only the metadata know.
        style: the backbone's `style` that the weights fit; None for any.
    """

    family: str
    name: str
    theirs: tuple[str, ...] = field(default=(), repr=False)
    signature: tuple[str, ...] = ()
    title: str | None = None
    units: tuple[int, ...] = (48,) * 7
    their_units: tuple[int, ...] | None = None
    first: int = 1
    modules: Callable[[], Mapping[str, str]] | None = None
    networks: tuple[str, ...] | None = ()
    classifier: str | None = 'fc'
    classifier_bias: bool = True
    prefix: str = ''
    wrapped: bool = False
    input_format: InputFormat | None = None
    style: str | None = None
    ours: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def is_former(self) -> bool:
        """Whether these are former names of this package."""
        return self.name == OURS and bool(self.theirs)

    def prefixes(self, keys: Iterable[str]) -> list[str]:
        """The prefixes under which ``keys`` have a network in this format."""
        first = (_alternatives(each)[0] for each in self.theirs[:2])
        modules = (
            re.sub(r'\\\{.+?\\\}', r'\\d+', re.escape(name)) for name in first
        )
        patterns = [
            re.compile(rf'((?:.*\.)?){each}')
            for each in (*modules, *self.signature)
        ]
        found = [
            dict.fromkeys(hit[1] for hit in map(each.match, keys) if hit)
            for each in patterns
        ]
        return [p for p in found[0] if all(p in each for each in found)]

    def to_ours(self, key: str) -> str | None:
        """Translate their key of a backbone to ours; None if unknown."""
        return self._translated(key, 0)

    def to_theirs(self, key: str) -> str | None:
        """Translate our key of a backbone to theirs; None if unknown."""
        return self._translated(key, 1)

    def _translated(self, key: str, direction: int) -> str | None:
        if not self.theirs and not self.modules:
            return key
        module, _, parameter = key.rpartition('.')
        found = self._names[direction].get(module)
        return f'{found}.{parameter}' if found else None

    @cached_property
    def _names(self) -> tuple[dict[str, str], dict[str, str]]:
        to_theirs = dict(self.modules()) if self.modules else {}
        to_ours = {theirs: ours for ours, theirs in to_theirs.items()}
        their_places = _places(self.their_units or self.units, self.first)
        places = _places(self.units, self.first)
        for row in zip(self.theirs, self.ours, strict=False):
            for theirs, ours in zip(*map(_alternatives, row), strict=True):
                for a, b in zip(their_places, places, strict=True):
                    names = theirs.format_map(a), ours.format_map(b)
                    # The first template that names a module wins.
                    to_ours.setdefault(*names)
                    to_theirs.setdefault(*names[::-1])
        return to_ours, to_theirs


def _own(family: str, *signature: str, **options) -> WeightFormat:
    """This package's names."""
    return WeightFormat(
        family,
        OURS,
        signature=signature,
        **{'networks': None, **options},
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
    )


_former = dict(title=f'{OURS} (former names)', networks=())
_authors = dict(
    title="ShuffleNet-Series (the authors')",
    classifier='classifier.0',
    classifier_bias=False,
    wrapped=True,
    input_format=RAW_BGR,
    style='authors',
)
_mmpretrain = dict(
    classifier='head.fc',
    prefix='backbone.',
    wrapped=True,
    input_format=NORMALISED_RGB,
)
_pytorchcv = dict(classifier='output', input_format=NORMALISED_RGB)

# Three stages from stage2 on (Table 5).
_shuffle = dict(units=(4, 8, 4), first=2)
# Other projects have neither the deep networks nor those with other units.
V2_WIDTHS = tuple(f'shufflenet_v2_x{w}' for w in ('0_5', '1_0', '1_5', '2_0'))
V2_NAMES = (
    'conv1.{0|1}',
    'stage{s}.{u}.branch1.{0|1|2|3}',
    'stage{s}.{u}.branch2.{0|1|3|4|5|6}',
    'conv5.{0|1}',
)
_v2 = partial(WeightFormat, 'ShuffleNetV2', ours=V2_NAMES)
SHUFFLENET_V2 = (
    _v2(
        'torchvision',
        signature=(r'conv1\.0\.', r'stage2\.0\.branch1\.0\.', r'fc\.'),
        networks=V2_WIDTHS,
        input_format=NORMALISED_RGB,
        style='torchvision',
    ),
    _own('ShuffleNetV2', r'conv1\.0\.', r'stage\d\.0\.branch2\.0\.'),
    _own(
        'ShuffleNetV2',
        theirs=(
            'stem.{conv1|conv2|conv3}.{conv|bn}',
            'stage{s}.{u}.branch1.{depthwise|pointwise}.{conv|bn}',
            'stage{s}.{u}.branch2.{pointwise1|depthwise|pointwise2}.{conv|bn}',
            'conv5.0.{conv|bn}',
            'stage{s}.{u}.branch2.enlarge.{conv|bn}',
            'stage{s}.{u}.branch2.se.gate.{1|2}.conv',
        ),
        ours=(
            *('conv1.{0|1|3|4|6|7}', *V2_NAMES[1:]),
            *('stage{s}.{u}.enlarge.{0|1}', 'stage{s}.{u}.se.{fc1|fc2}'),
        ),
        **_former,
    ),
    _v2(
        'authors',
        (
            'first_conv.{0|1}',
            'features.{n}.branch_proj.{0|1|2|3}',
            'features.{n}.branch_main.{0|1|3|4|5|6}',
            'conv_last.{0|1}',
        ),
        networks=V2_WIDTHS,
        **_shuffle,
        **_authors,
    ),
    # The authors' units without conv5; input RGB or BGR divided by 255.
    _v2(
        'fastestdet',
        (
            'first_conv.{0|1}',
            'stage{s}.{u}.branch_proj.{0|1|2|3}',
            'stage{s}.{u}.branch_main.{0|1|3|4|5|6}',
        ),
        title='FastestDet and Yolo-FastestV2',
        input_format=SCALED_BGR,
        style='authors',
        **_shuffle,
    ),
    _v2(
        'mmpretrain',
        (
            'conv1.{conv|bn}',
            'layers.{s-2}.{u}.branch1.{0|1}.{conv|bn}',
            'layers.{s-2}.{u}.branch2.{0|1|2}.{conv|bn}',
            'layers.3.{conv|bn}',
        ),
        networks=V2_WIDTHS,
        style='torchvision',
        **_shuffle,
        **_mmpretrain,
    ),
    # pytorchcv's shufflenetv2b at 0.5x; its other widths mix both styles.
    _v2(
        'pytorchcv',
        (
            'features.init_block.conv.{conv|bn}',
            'features.stage{s-1}.unit{u+1}.shortcut_{dconv|conv}.{conv|bn}',
            'features.stage{s-1}.unit{u+1}.{conv1|dconv|conv2}.{conv|bn}',
            'features.final_block.{conv|bn}',
        ),
        title='pytorchcv (shufflenetv2b)',
        networks=V2_WIDTHS[:1],
        style='torchvision',
        **_shuffle,
        **_pytorchcv,
    ),
    # The tensors have the same shapes, but nothing here loads them.
    WeightFormat(
        'ShuffleNetV2 with other pooling',
        'pytorchcv (shufflenetv2)',
        signature=(r'features\.stage1\.unit1\.dw_conv4\.',),
    ),
)

# Other projects scale the stem like the stages, the authors do not.
V1_AS_WIDE_A_STEM = (
    *(f'shufflenet_v1_x1_0_g{groups}' for groups in (1, 2, 3, 4, 8)),
    *('shufflenet_v1_x0_5_g3', 'shufflenet_v1_x2_0_g3'),
    'shufflenet_v1_x2_0_g8',
)
V1_NAMES = (
    'stem.conv1.{conv|bn}',
    'stage{s}.{u}.{compress|depthwise|expand}.{conv|bn}',
)
_v1 = partial(WeightFormat, 'ShuffleNetV1', ours=V1_NAMES, **_shuffle)
SHUFFLENET_V1 = (
    _own('ShuffleNetV1', r'stem\.', r'stage\d\.0\.compress\.'),
    _v1(
        'authors',
        (
            'first_conv.{0|1}',
            'features.{n}.branch_main_{1.0|1.1|1.3|1.4|2.0|2.1}',
        ),
        networks=tuple(
            f'shufflenet_v1_x{width}_g{groups}'
            for groups in (3, 8)
            for width in ('0_5', '1_0', '1_5', '2_0')
        ),
        **_authors,
    ),
    _v1(
        'mmpretrain',
        (
            'conv1.{conv|bn}',
            'layers.{s-2}.{u}.{g_conv_1x1_compress|depthwise_conv3x3_bn'
            '|g_conv_1x1_expand}.{conv|bn}',
        ),
        networks=V1_AS_WIDE_A_STEM,
        style='mmpretrain',
        **_mmpretrain,
    ),
    _v1(
        'pytorchcv',
        (
            'features.init_block.{conv|bn}',
            'features.stage{s-1}.unit{u+1}.{compress_conv1|compress_bn1'
            '|dw_conv2|dw_bn2|expand_conv3|expand_bn3}',
        ),
        title='pytorchcv (shufflenet)',
        networks=V1_AS_WIDE_A_STEM,
        style='paper',
        **_pytorchcv,
    ),
)

MOBILENET_V1 = (
    _own(
        'MobileNetV1', r'stage\d\.0\.depthwise\.', r'stage\d\.0\.pointwise\.'
    ),
    WeightFormat(
        'MobileNetV1',
        'pytorchcv',
        (
            'features.init_block.{conv|bn}',
            'features.stage{s}.unit{u+1}.{dw|pw}_conv.{conv|bn}',
        ),
        ours=(V1_NAMES[0], 'stage{s}.{u}.{depthwise|pointwise}.{conv|bn}'),
        title='pytorchcv (mobilenet)',
        networks=None,
        **_pytorchcv,
    ),
)

# The first block has no expansion.
MBV2_NAMES = (
    'conv1.{conv|bn}',
    'layer1.0.{depthwise|linear}_conv.{conv|bn}',
    'layer{s}.{u}.{expand|depthwise|linear}_conv.{conv|bn}',
    'conv2.{conv|bn}',
)
# Narrower networks round their channels differently in this package.
MBV2_WIDTHS = ('mobilenet_v2_x1_0', 'mobilenet_v2_x1_4')
_blocks = dict(units=(1, 2, 3, 4, 3, 3, 1), ours=MBV2_NAMES)
_mbv2 = partial(WeightFormat, 'MobileNetV2', **_blocks)
MOBILENET_V2 = (
    _own('MobileNetV2', r'conv1\.conv\.', r'layer1\.0\.depthwise_conv\.'),
    _own(
        'MobileNetV2',
        theirs=(
            *('stem.conv1.{conv|bn}', *MBV2_NAMES[1:3]),
            'conv2.0.{conv|bn}',
        ),
        ours=MBV2_NAMES,
        **_former,
    ),
    # Our names, but with another classifier.
    _mbv2(
        'mmdet',
        signature=(r'conv1\.conv\.', r'layer1\.0\.depthwise_conv\.'),
        networks=MBV2_WIDTHS,
        prefix='backbone.',
        wrapped=True,
    ),
    _mbv2(
        'mmpretrain',
        (
            MBV2_NAMES[0],
            'layer1.0.conv.{0|1}.{conv|bn}',
            'layer{s}.{u}.conv.{0|1|2}.{conv|bn}',
            MBV2_NAMES[-1],
        ),
        networks=MBV2_WIDTHS,
        **_mmpretrain,
    ),
    _mbv2(
        'torchvision',
        (
            'features.0.{0|1}',
            'features.1.conv.{0.0|0.1|1|2}',
            'features.{n+1}.conv.{0.0|0.1|1.0|1.1|2|3}',
            'features.18.{0|1}',
        ),
        networks=MBV2_WIDTHS,
        classifier='classifier.1',
        input_format=NORMALISED_RGB,
    ),
    _mbv2(
        'timm',
        (
            '{conv_stem|bn1}',
            'blocks.0.0.{conv_dw|bn1|conv_pw|bn2}',
            'blocks.{s-1}.{u}.{conv_pw|bn1|conv_dw|bn2|conv_pwl|bn3}',
            '{conv_head|bn2}',
        ),
        # Excludes MobileNet V3.
        (r'blocks\.6\.0\.conv_pwl\.',),
        classifier='classifier',
        input_format=NORMALISED_RGB,
    ),
    _mbv2(
        'pytorchcv',
        (
            'features.init_block.{conv|bn}',
            'features.stage1.unit1.{conv2|conv3}.{conv|bn}',
            'features.stage{s}.unit{u+1}.{conv1|conv2|conv3}.{conv|bn}',
            'features.final_block.{conv|bn}',
        ),
        (r'features\.stage4\.unit7\.conv3\.bn\.',),
        title='pytorchcv (mobilenetv2b)',
        their_units=(1, 2, 3, 7, 4),
        classifier_bias=False,
        **_pytorchcv,
    ),
)


def _of_library(family: str, ours: str, *theirs: str, **options):
    """Formats of a network that `PytorchcvBackbone` takes from pytorchcv.

    `PytorchcvBackbone` derives the names from the network itself.
    """
    options = dict(_pytorchcv, networks=None) | options
    library = WeightFormat(family, 'pytorchcv', signature=theirs, **options)
    return _own(family, r'stem\.', ours), library


FORMATS = (
    *SHUFFLENET_V2,
    *SHUFFLENET_V1,
    *MOBILENET_V1,
    *_of_library(
        'IGCV3',
        r'stage1\.0\.conv3\.',
        # MobileNet V2 and DPN have the same names but fewer units.
        r'features\.stage4\.unit14\.conv3\.',
        # The library rounds the channels of other widths differently.
        networks=('igcv3_d_1_0',),
    ),
    *MOBILENET_V2,
    # The same names as ShuffleNet V2.
    _own('SNet', r'conv1\.0\.weight', r'stage\d\.0\.branch2\.0\.'),
    _own('Xception', r'stem\.', r'stage\d\.0\.branch\.'),
    # mmdet's CSPDarknet also has a stem, and convolutions in stages.
    _own('DenseNet', r'stem\.conv1\.', r'stage\d\.0\.conv\.'),
    _own('IGCV2', r'stem\.', r'stage\d\.0\.mix1\.'),
    *_of_library(
        'CondenseNet',
        r'stage1\.1\.conv1\.index',
        r'features\.stage1\.unit1\.conv1\.index',
        # The classifier reads only the channels in output.index, half of all.
        classifier=None,
    ),
    *_of_library(
        'NASNet',
        r'stage1\.0\.unit\.conv1x1\.',
        r'features\.stem1_unit\.conv1x1\.',
        classifier='output.fc',
    ),
    *_of_library(
        'PNASNet',
        r'stage1\.0\.unit\.conv_1x1\.',
        r'features\.stem1_unit\.conv_1x1\.',
        classifier='output.fc',
    ),
    *_of_library(
        'SENet',
        r'stage1\.0\.body\.',
        r'features\.init_block\.conv3\.conv\.weight',
        r'features\.stage1\.unit1\.se\.',
        classifier='output.fc',
    ),
    # The wrong file that people try most often; nothing here loads it.
    WeightFormat(
        'ResNet',
        'torchvision and mmdet',
        signature=(r'conv1\.weight', r'layer1\.0\.conv1\.'),
    ),
)
# Formats to convert to; each network supports some of them.
FORMAT_NAMES = tuple(
    dict.fromkeys([OURS, *(f.name for f in FORMATS if f.networks != ())])
)


def formats_of_family(family: str) -> tuple[WeightFormat, ...]:
    """The formats in which weights of a family can be read."""
    return tuple(f for f in FORMATS if f.family == family)


def recognise(
    keys: Iterable[str], formats: Iterable[WeightFormat] = FORMATS
) -> dict[str, list[WeightFormat]]:
    """Prefix -> formats that the keys may have; usual prefixes first."""
    found = {prefix: [] for prefix in USUAL_PREFIXES}
    for each in formats:
        for prefix in each.prefixes(keys):
            found.setdefault(prefix, []).append(each)
    return {prefix: each for prefix, each in found.items() if each}


def family_of(keys: Iterable[str]) -> str:
    """Describe keys, as in "MobileNetV2 in the format of torchvision"."""
    for first, *_ in recognise(keys).values():
        return f'{first.family} in the format of {first}'
    return 'no known network'


def within(weights: Mapping[str, object], prefix: str) -> dict:
    """The entries under a prefix, with the prefix removed."""
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }
