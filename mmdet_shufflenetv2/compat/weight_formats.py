"""How networks' weights are named where they are published: one table.

A row of `FORMATS` is a project's naming of a family. It is recognised by
patterns of keys; pairs of templates, theirs and ours, translate the modules'
names in both directions. Values stay as they are, because the networks are
numerically the same.

In a template ``{s}`` is a stage's number, ``{u}`` a unit's in it and ``{n}``
a unit's in the whole network, each with what is added where it is written;
``{a|b}`` pairs with the alternative at the same place on the other side, and
``{a|b}.{c|d}`` is short for ``{a.c|a.d|b.c|b.d}``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .input_format import NORMALISED_RGB, RAW_BGR, SCALED_BGR, InputFormat

OURS = 'mmdet_shufflenetv2'
# What DistributedDataParallel and `torch.compile` put before every name.
_WRAPPING = re.compile(r'((module|_orig_mod)\.)*')
# A backbone's own file, a detector's, and Lightning's.
USUAL_PREFIXES = ('', 'backbone.', 'model.backbone.')
_FIELD = re.compile(r'\{(.+?)\}')
_NUMBER = re.compile(r'([sun])([+-]\d+)?')


class _Template:
    """A module's name with numbers and alternatives left open."""

    def __init__(self, text: str, units: tuple[int, ...], first: int):
        pieces = _FIELD.split(text)
        self.literals = pieces[::2]
        # (letter, what is added) of a number, or the alternatives.
        self.fields: list[tuple[str, int] | list[str]] = []
        pattern = re.escape(pieces[0])
        for inside, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            number = _NUMBER.fullmatch(inside)
            if number:
                self.fields.append((number[1], int(number[2] or 0)))
                pattern += r'(\d+)'
            else:
                self.fields.append(inside.split('|'))
                pattern += f'({"|".join(map(re.escape, self.fields[-1]))})'
            pattern += re.escape(literal)
        self.pattern = re.compile(pattern)
        # Every unit's stage and number in it, in order.
        self.places = [
            (stage, unit)
            for stage, count in enumerate(units, start=first)
            for unit in range(count)
        ]

    def read(self, name: str) -> dict[str, int] | None:
        """The values in a name; None if the name is another's."""
        match = self.pattern.fullmatch(name)
        if not match:
            return None
        values = {'choice': 0}
        for each, text in zip(self.fields, match.groups(), strict=True):
            if isinstance(each, list):
                values['choice'] *= len(each)
                values['choice'] += each.index(text)
            else:
                values[each[0]] = int(text) - each[1]
        place = (values.get('s'), values.get('u'))
        if place in self.places:
            values['n'] = self.places.index(place)
        return values

    def write(self, values: dict[str, int]) -> str | None:
        """The name with these values; None if there is no such unit."""
        n = values.get('n')
        if n is not None and self.places:
            if not 0 <= n < len(self.places):
                return None
            stage, unit = self.places[n]
            values = {**values, 's': stage, 'u': unit}
        choice = values['choice']
        text = self.literals[-1]
        for each, literal in zip(
            self.fields[::-1], self.literals[-2::-1], strict=True
        ):
            if isinstance(each, list):
                choice, index = divmod(choice, len(each))
                text = literal + each[index] + text
            elif each[0] in values:
                text = literal + str(values[each[0]] + each[1]) + text
            else:
                return None
        return text


@dataclass(frozen=True, eq=False)
class WeightFormat:
    """A project's way to name a family's weights.

    Attributes:
        family: of networks.
        name: of the project, as a command line takes it.
        signature: patterns; each one matches some key of such a file.
        rows: templates of modules' names, (theirs, ours).
        title: what to call it in messages; None means ``name``.
        absent: patterns; none of them matches any key of such a file.
        units: units per stage, of the first stages of ours.
        their_units: the same of theirs, where they divide them otherwise.
        first: number of the first stage.
        modules: instead of ``rows``: gives our module -> theirs, of every
            module that has weights.
        readable: whether there is a network here that such weights fit.
        networks: those of `mmdet_shufflenetv2.backbones.zoo` that can be
            written; None for every one of the family's.
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

    family: str
    name: str
    signature: tuple[str, ...]
    rows: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    title: str | None = None
    absent: tuple[str, ...] = ()
    units: tuple[int, ...] = ()
    their_units: tuple[int, ...] | None = None
    first: int = 1
    modules: Callable[[], Mapping[str, str]] | None = None
    readable: bool = True
    networks: tuple[str, ...] | None = None
    classifier: str = 'fc'
    classifier_bias: bool = True
    only_backbone: str | None = None
    prefix: str = ''
    wrapped: bool = False
    input_format: InputFormat | None = None
    style: str | None = None

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def is_former(self) -> bool:
        """Whether these are names that this package had once."""
        return self.name == OURS and bool(self.rows)

    def recognises(self, keys: Iterable[str]) -> bool:
        """Whether a backbone with these keys, or a file, is in this format."""
        keys = list(keys)

        def found(pattern: str) -> bool:
            return any(re.match(pattern, key) for key in keys)

        return all(map(found, self.signature)) and not any(
            map(found, self.absent)
        )

    def is_classifier(self, key: str) -> bool:
        """Whether a key is of the linear layer."""
        return key.startswith(f'{self.classifier}.')

    def writes(self, network: str) -> bool:
        """Whether the project has a network of the family, by our name."""
        return self.networks is None or network in self.networks

    def to_ours(self, key: str) -> str | None:
        """Our name of a backbone's weight; None if there is none."""
        return self._translated(key, self._modules[1], False)

    def to_theirs(self, key: str) -> str | None:
        """Their name of a backbone's weight; None if there is none."""
        return self._translated(key, self._modules[0], True)

    @cached_property
    def _modules(self) -> tuple[dict[str, str], dict[str, str]]:
        ours = dict(self.modules()) if self.modules else {}
        return ours, {theirs: name for name, theirs in ours.items()}

    @cached_property
    def _templates(self) -> list[tuple[_Template, _Template]]:
        theirs, ours = self.their_units or self.units, self.units
        return [
            (_Template(a, theirs, self.first), _Template(b, ours, self.first))
            for a, b in self.rows
        ]

    def _translated(
        self, key: str, modules: dict[str, str], backwards: bool
    ) -> str | None:
        module, _, parameter = key.rpartition('.')
        if self.modules:
            found = modules.get(module)
            return f'{found}.{parameter}' if found else None
        if not self.rows:
            return key
        for pair in self._templates:
            source, target = pair[::-1] if backwards else pair
            values = source.read(module)
            name = None if values is None else target.write(values)
            if name is not None:
                return f'{name}.{parameter}'
        return None


def _own(family: str, *signature: str, former: bool = False, **options):
    """This package's names; former ones are read only."""
    if former:
        options.update(title=f'{OURS} (former names)', networks=())
    return WeightFormat(
        family,
        OURS,
        signature,
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
        **options,
    )


def _known(family: str, name: str, *signature: str, **options):
    """Weights that no network here fits, to call a wrong file by its name."""
    return WeightFormat(
        family, name, signature, readable=False, networks=(), **options
    )


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
# Neither the deeper networks nor those with other units are elsewhere.
V2_WIDTHS = tuple(f'shufflenet_v2_x{w}' for w in ('0_5', '1_0', '1_5', '2_0'))
V2_BRANCH1 = 'stage{s}.{u}.branch1.{0|1|2|3}'
V2_BRANCH2 = 'stage{s}.{u}.branch2.{0|1|3|4|5|6}'
SHUFFLENET_V2 = (
    WeightFormat(
        'ShuffleNetV2',
        'torchvision',
        (r'conv1\.0\.weight', r'stage2\.0\.branch1\.0\.weight', r'fc\.weight'),
        networks=V2_WIDTHS,
        input_format=NORMALISED_RGB,
        style='torchvision',
    ),
    _own('ShuffleNetV2', r'conv1\.0\.weight', r'stage\d\.0\.branch2\.0\.'),
    _own(
        'ShuffleNetV2',
        r'stem\.conv1\.conv\.',
        r'stage\d\.0\.branch2\.',
        former=True,
        rows=(
            ('stem.{conv1|conv2|conv3}.{conv|bn}', 'conv1.{0|1|3|4|6|7}'),
            (
                'stage{s}.{u}.branch1.{depthwise|pointwise}.{conv|bn}',
                V2_BRANCH1,
            ),
            (
                'stage{s}.{u}.branch2.{pointwise1|depthwise|pointwise2}'
                '.{conv|bn}',
                V2_BRANCH2,
            ),
            (
                'stage{s}.{u}.branch2.enlarge.{conv|bn}',
                'stage{s}.{u}.enlarge.{0|1}',
            ),
            (
                'stage{s}.{u}.branch2.se.gate.{1|2}.conv',
                'stage{s}.{u}.se.{fc1|fc2}',
            ),
            ('conv5.0.{conv|bn}', 'conv5.{0|1}'),
        ),
    ),
    WeightFormat(
        'ShuffleNetV2',
        'authors',
        (r'first_conv\.0\.weight', r'features\.0\.branch_main\.0\.weight'),
        (
            ('first_conv.{0|1}', 'conv1.{0|1}'),
            ('features.{n}.branch_proj.{0|1|2|3}', V2_BRANCH1),
            ('features.{n}.branch_main.{0|1|3|4|5|6}', V2_BRANCH2),
            ('conv_last.{0|1}', 'conv5.{0|1}'),
        ),
        networks=V2_WIDTHS,
        **_shuffle,
        **_authors,
    ),
    # The authors' unit without conv5, on RGB or BGR divided by 255.
    WeightFormat(
        'ShuffleNetV2',
        'fastestdet',
        (r'first_conv\.0\.weight', r'stage2\.0\.branch_main\.0\.weight'),
        (
            ('first_conv.{0|1}', 'conv1.{0|1}'),
            ('stage{s}.{u}.branch_proj.{0|1|2|3}', V2_BRANCH1),
            ('stage{s}.{u}.branch_main.{0|1|3|4|5|6}', V2_BRANCH2),
        ),
        title='FastestDet and Yolo-FastestV2',
        networks=(),
        input_format=SCALED_BGR,
        style='authors',
    ),
    WeightFormat(
        'ShuffleNetV2',
        'mmpretrain',
        (r'conv1\.conv\.weight', r'layers\.0\.0\.branch1\.0\.conv\.weight'),
        (
            ('conv1.{conv|bn}', 'conv1.{0|1}'),
            ('layers.{s-2}.{u}.branch1.{0|1}.{conv|bn}', V2_BRANCH1),
            ('layers.{s-2}.{u}.branch2.{0|1|2}.{conv|bn}', V2_BRANCH2),
            ('layers.3.{conv|bn}', 'conv5.{0|1}'),
        ),
        networks=V2_WIDTHS,
        style='torchvision',
        **_mmpretrain,
    ),
    # Its shufflenetv2b at 0.5x; the other widths mix both styles, and its
    # shufflenetv2 pools at other places.
    WeightFormat(
        'ShuffleNetV2',
        'pytorchcv',
        (
            r'features\.init_block\.conv\.conv\.weight',
            r'features\.stage1\.unit1\.shortcut_dconv\.conv\.weight',
        ),
        (
            ('features.init_block.conv.{conv|bn}', 'conv1.{0|1}'),
            (
                'features.stage{s-1}.unit{u+1}.shortcut_{dconv|conv}.{conv|bn}',
                V2_BRANCH1,
            ),
            (
                'features.stage{s-1}.unit{u+1}.{conv1|dconv|conv2}.{conv|bn}',
                V2_BRANCH2,
            ),
            ('features.final_block.{conv|bn}', 'conv5.{0|1}'),
        ),
        title='pytorchcv (shufflenetv2b)',
        networks=V2_WIDTHS[:1],
        style='torchvision',
        **_pytorchcv,
    ),
    _known(
        'ShuffleNetV2',
        'pytorchcv (shufflenetv2)',
        r'features\.init_block\.conv\.conv\.weight',
        r'features\.stage1\.unit1\.compress_conv1\.weight',
        r'features\.stage1\.unit1\.dw_conv4\.weight',
    ),
)

V1_UNIT = 'stage{s}.{u}.{compress|depthwise|expand}.{conv|bn}'
V1_STEM = 'stem.conv1.{conv|bn}'
# Elsewhere the stem is as wide as the stages, which the authors' is not.
V1_AS_WIDE_A_STEM = (
    *(f'shufflenet_v1_x1_0_g{groups}' for groups in (1, 2, 3, 4, 8)),
    *('shufflenet_v1_x0_5_g3', 'shufflenet_v1_x2_0_g3'),
    'shufflenet_v1_x2_0_g8',
)
SHUFFLENET_V1 = (
    _own('ShuffleNetV1', r'stem\.', r'stage\d\.0\.compress\.'),
    WeightFormat(
        'ShuffleNetV1',
        'authors',
        (r'first_conv\.0\.weight', r'features\.0\.branch_main_1\.0\.weight'),
        (
            ('first_conv.{0|1}', V1_STEM),
            ('features.{n}.branch_main_{1.0|1.1|1.3|1.4|2.0|2.1}', V1_UNIT),
        ),
        networks=tuple(
            f'shufflenet_v1_x{width}_g{groups}'
            for groups in (3, 8)
            for width in ('0_5', '1_0', '1_5', '2_0')
        ),
        **_shuffle,
        **_authors,
    ),
    WeightFormat(
        'ShuffleNetV1',
        'mmpretrain',
        (r'conv1\.conv\.weight', r'layers\.0\.0\.g_conv_1x1_compress\.'),
        (
            ('conv1.{conv|bn}', V1_STEM),
            (
                'layers.{s-2}.{u}.{g_conv_1x1_compress|depthwise_conv3x3_bn'
                '|g_conv_1x1_expand}.{conv|bn}',
                V1_UNIT,
            ),
        ),
        networks=V1_AS_WIDE_A_STEM,
        style='mmpretrain',
        **_mmpretrain,
    ),
    WeightFormat(
        'ShuffleNetV1',
        'pytorchcv',
        (
            r'features\.init_block\.conv\.weight',
            r'features\.stage1\.unit1\.compress_conv1\.weight',
        ),
        (
            ('features.init_block.{conv|bn}', V1_STEM),
            (
                'features.stage{s-1}.unit{u+1}.{compress_conv1|compress_bn1|dw_conv2|dw_bn2|expand_conv3|expand_bn3}',
                V1_UNIT,
            ),
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
            r'features\.init_block\.conv\.weight',
            r'features\.stage1\.unit1\.dw_conv\.conv\.weight',
        ),
        (
            ('features.init_block.{conv|bn}', 'stem.conv1.{conv|bn}'),
            (
                'features.stage{s}.unit{u+1}.{dw|pw}_conv.{conv|bn}',
                'stage{s}.{u}.{depthwise|pointwise}.{conv|bn}',
            ),
        ),
        title='pytorchcv (mobilenet)',
        **_pytorchcv,
    ),
)

# The first block has no expansion.
MBV2_FIRST = 'layer1.0.{depthwise|linear}_conv.{conv|bn}'
MBV2_BLOCK = 'layer{s}.{u}.{expand|depthwise|linear}_conv.{conv|bn}'
MBV2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
# Of narrower ones the channels are rounded in another way here.
MBV2_WIDTHS = ('mobilenet_v2_x1_0', 'mobilenet_v2_x1_4')
MOBILENET_V2 = (
    _own('MobileNetV2', r'conv1\.conv\.', r'layer1\.0\.depthwise_conv\.'),
    _own(
        'MobileNetV2',
        r'stem\.conv1\.conv\.',
        r'layer1\.0\.depthwise_conv\.',
        former=True,
        rows=(
            ('stem.conv1.{conv|bn}', 'conv1.{conv|bn}'),
            (MBV2_BLOCK, MBV2_BLOCK),
            ('conv2.0.{conv|bn}', 'conv2.{conv|bn}'),
        ),
    ),
    # The same names; what is written has another classifier.
    WeightFormat(
        'MobileNetV2',
        'mmdet',
        (r'conv1\.conv\.', r'layer1\.0\.depthwise_conv\.'),
        networks=MBV2_WIDTHS,
        prefix='backbone.',
        wrapped=True,
    ),
    WeightFormat(
        'MobileNetV2',
        'mmpretrain',
        (r'conv1\.conv\.weight', r'layer1\.0\.conv\.0\.conv\.'),
        (
            ('conv1.{conv|bn}', 'conv1.{conv|bn}'),
            ('layer1.0.conv.{0|1}.{conv|bn}', MBV2_FIRST),
            ('layer{s}.{u}.conv.{0|1|2}.{conv|bn}', MBV2_BLOCK),
            ('conv2.{conv|bn}', 'conv2.{conv|bn}'),
        ),
        networks=MBV2_WIDTHS,
        **_mmpretrain,
    ),
    WeightFormat(
        'MobileNetV2',
        'torchvision',
        (r'features\.0\.0\.weight', r'features\.1\.conv\.0\.0\.weight'),
        (
            ('features.0.{0|1}', 'conv1.{conv|bn}'),
            ('features.1.conv.{0.0|0.1|1|2}', MBV2_FIRST),
            ('features.{n+1}.conv.{0.0|0.1|1.0|1.1|2|3}', MBV2_BLOCK),
            ('features.18.{0|1}', 'conv2.{conv|bn}'),
        ),
        units=MBV2_BLOCKS,
        networks=MBV2_WIDTHS,
        classifier='classifier.1',
        input_format=NORMALISED_RGB,
    ),
    WeightFormat(
        'MobileNetV2',
        'timm',
        (r'conv_stem\.weight', r'blocks\.1\.0\.conv_pwl\.weight'),
        (
            ('{conv_stem|bn1}', 'conv1.{conv|bn}'),
            ('blocks.0.0.{conv_dw|bn1|conv_pw|bn2}', MBV2_FIRST),
            (
                'blocks.{s-1}.{u}.{conv_pw|bn1|conv_dw|bn2|conv_pwl|bn3}',
                MBV2_BLOCK,
            ),
            ('{conv_head|bn2}', 'conv2.{conv|bn}'),
        ),
        # MobileNet V3 and EfficientNet have the same names and more.
        absent=(r'blocks\.\d\.\d\.se\.', r'blocks\.1\.2\.', r'blocks\.0\.1\.'),
        networks=(),
        classifier='classifier',
        input_format=NORMALISED_RGB,
    ),
    WeightFormat(
        'MobileNetV2',
        'pytorchcv',
        (
            r'features\.init_block\.conv\.weight',
            r'features\.stage1\.unit1\.conv3\.bn\.weight',
            r'features\.stage2\.unit2\.conv3\.bn\.weight',
            r'features\.stage4\.unit7\.conv3\.bn\.weight',
        ),
        (
            ('features.init_block.{conv|bn}', 'conv1.{conv|bn}'),
            ('features.stage1.unit1.{conv2|conv3}.{conv|bn}', MBV2_FIRST),
            (
                'features.stage{s}.unit{u+1}.{conv1|conv2|conv3}.{conv|bn}',
                MBV2_BLOCK,
            ),
            ('features.final_block.{conv|bn}', 'conv2.{conv|bn}'),
        ),
        title='pytorchcv (mobilenetv2b)',
        # IGCV3 has the same names, and more units.
        absent=(
            r'features\.stage1\.unit1\.conv1\.',
            r'features\.stage2\.unit3\.',
        ),
        units=MBV2_BLOCKS,
        their_units=(1, 2, 3, 7, 4),
        networks=(),
        classifier_bias=False,
        **_pytorchcv,
    ),
    _known(
        'MobileNetV2',
        'pytorchcv',
        r'features\.init_block\.conv\.weight',
        r'features\.stage1\.unit1\.conv1\.bn\.weight',
        r'features\.stage2\.unit2\.conv3\.bn\.weight',
        r'features\.stage4\.unit7\.conv3\.bn\.weight',
        absent=(r'features\.stage2\.unit3\.',),
    ),
)


def _of_library(family: str, ours: str, *theirs: str, **options):
    """Formats of a network that `PytorchcvBackbone` takes from pytorchcv.

    It is there that the names' table is made, from the network itself.
    """
    library = WeightFormat(
        family,
        'pytorchcv',
        theirs,
        input_format=NORMALISED_RGB,
        **options,
    )
    return _own(family, r'stem\.', ours), library


FORMATS = (
    *SHUFFLENET_V2,
    *SHUFFLENET_V1,
    *MOBILENET_V1,
    *MOBILENET_V2,
    # Its names are those of ShuffleNet V2.
    _own('SNet', r'conv1\.0\.weight', r'stage\d\.0\.branch2\.0\.'),
    _own('Xception', r'stem\.', r'stage\d\.0\.branch\.'),
    # mmdet's CSPDarknet has a stem and convolutions in stages as well.
    _own('DenseNet', r'stem\.conv1\.', r'stage\d\.0\.conv\.'),
    _own('IGCV2', r'stem\.', r'stage\d\.0\.mix1\.'),
    *_of_library(
        'IGCV3',
        r'stage1\.0\.conv3\.',
        r'features\.init_block\.conv\.weight',
        r'features\.stage1\.unit1\.conv3\.bn\.',
        # MobileNet V2 and DPN have the same names, and fewer units there.
        r'features\.stage4\.unit14\.conv3\.',
        # The library rounds the channels of the others in another way.
        networks=('igcv3_d_1_0',),
    ),
    *_of_library(
        'CondenseNet',
        r'stage1\.1\.conv1\.index',
        r'features\.stage1\.unit1\.conv1\.index',
        only_backbone='reads half of the channels, those in output.index',
    ),
    *_of_library(
        'NASNet',
        r'stage1\.0\.unit\.conv1x1\.',
        r'features\.stem1_unit\.conv1x1\.',
    ),
    *_of_library(
        'PNASNet',
        r'stage1\.0\.unit\.conv_1x1\.',
        r'features\.stem1_unit\.conv_1x1\.',
    ),
    *_of_library(
        'SENet',
        r'stage1\.0\.body\.',
        r'features\.init_block\.conv3\.conv\.weight',
        r'features\.stage1\.unit1\.se\.',
    ),
    _known(
        'ResNet',
        'torchvision and mmdet',
        r'conv1\.weight',
        r'layer1\.0\.conv1\.',
    ),
    _known(
        'ResNet',
        'pytorchcv',
        r'features\.init_block\.conv\.conv\.weight',
        r'features\.stage1\.unit1\.body\.conv1\.conv\.',
    ),
    _known(
        'DenseNet',
        'torchvision',
        r'features\.conv0\.weight',
        r'features\.denseblock1\.denselayer1\.norm1\.weight',
    ),
    _known(
        'CSPDarknet',
        'mmdet',
        r'stem\.conv\.conv\.weight',
        r'stage1\.1\.main_conv\.conv\.weight',
    ),
)
# What a converted file may be written as; a network has some of them.
FORMAT_NAMES = tuple(
    dict.fromkeys([OURS, *(f.name for f in FORMATS if f.networks != ())])
)


def formats_of_family(family: str) -> tuple[WeightFormat, ...]:
    """The formats that a family's weights are read in."""
    return tuple(f for f in FORMATS if f.family == family and f.readable)


def wrapping_of(keys: Iterable[str]) -> str:
    """What wrappers such as DistributedDataParallel put before all keys."""
    return min((_WRAPPING.match(key)[0] for key in keys), key=len, default='')


def prefixes_of(keys: Iterable[str]) -> list[str]:
    """Names of modules in which a backbone may be, the usual ones first."""
    found = dict.fromkeys(USUAL_PREFIXES)
    for key in keys:
        *modules, _ = key.split('.')
        for depth in range(1, min(len(modules), 4)):
            found['.'.join(modules[:depth]) + '.'] = None
    return list(found)


def within(weights: Mapping[str, object], prefix: str) -> dict:
    """The entries under a prefix, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }


def family_of(keys: Iterable[str]) -> str | None:
    """What keys look like: "MobileNetV2 in the format of torchvision"."""
    keys = dict.fromkeys(keys)
    for prefix in USUAL_PREFIXES:
        inner = within(keys, prefix)
        for each in FORMATS:
            if each.recognises(inner):
                return f'{each.family} in the format of {each}'
    return None
