"""How the weights of the families beside ShuffleNet V2 are named.

By that a checkpoint of another family is also told from an unknown one.
"""

from collections.abc import Callable, Iterable, Mapping

from .foreign_checkpoints import (
    SHUFFLENET_V2_FORMATS,
    UNITS,
    CheckpointFormat,
    ConvAndNorm,
    named,
    numbered,
    of_layers,
    own_format,
)
from .input_format import NORMALISED_RGB, RAW_BGR

SHUFFLENET_V1_LAYERS = ('compress', 'depthwise', 'expand')
# Units per stage, and blocks per layer.
MOBILENET_V1_UNITS = {1: 1, 2: 2, 3: 2, 4: 6, 5: 2}
MOBILENET_V2_BLOCKS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 7: 1}
# A block's layers, of which the first layer's has no first one.
INVERTED_RESIDUAL = ('expand_conv', 'depthwise_conv', 'linear_conv')


def _before(units: Mapping[int, int], stage: int) -> int:
    """Units in front of a stage, for files that number them through."""
    return sum(count for each, count in units.items() if each < stage)


def _shufflenet_v1(
    stem: ConvAndNorm, unit_layer: Callable[[int, int, int], ConvAndNorm]
) -> dict[str, str]:
    """Our modules' names -> theirs, as for ShuffleNet V2."""
    layers = {'stem.conv1': stem}
    for stage, count in UNITS.items():
        for unit in range(count):
            for number, name in enumerate(SHUFFLENET_V1_LAYERS):
                home = f'stage{stage}.{unit}.{name}'
                layers[home] = unit_layer(stage, unit, number)
    return of_layers(layers)


def _v1_authors_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    part, conv = ((1, 0), (1, 3), (2, 0))[number]
    home = f'features.{_before(UNITS, stage) + unit}.branch_main_{part}'
    return f'{home}.{conv}', f'{home}.{conv + 1}'


def _v1_mmpretrain_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    names = ('g_conv_1x1_compress', 'depthwise_conv3x3_bn')
    name = (*names, 'g_conv_1x1_expand')[number]
    return named(f'layers.{stage - 2}.{unit}.{name}')


def _v1_pytorchcv_layer(stage: int, unit: int, number: int) -> ConvAndNorm:
    name = ('compress', 'dw', 'expand')[number]
    home = f'features.stage{stage - 1}.unit{unit + 1}.{name}'
    return f'{home}_conv{number + 1}', f'{home}_bn{number + 1}'


def _mobilenet_v1_pytorchcv() -> dict[str, str]:
    layers = {'stem.conv1': named('features.init_block')}
    for stage, count in MOBILENET_V1_UNITS.items():
        for unit in range(count):
            theirs = f'features.stage{stage}.unit{unit + 1}'
            for name, short in (('depthwise', 'dw'), ('pointwise', 'pw')):
                layers[f'stage{stage}.{unit}.{name}'] = named(
                    f'{theirs}.{short}_conv'
                )
    return of_layers(layers)


def _mobilenet_v2(
    stem: ConvAndNorm,
    conv2: ConvAndNorm,
    block_layer: Callable[[int, int, int], ConvAndNorm],
) -> dict[str, str]:
    """Our modules' names -> theirs.

    Args:
        stem, conv2: their names.
        block_layer: gives theirs for a layer, a block's number in it, and
            the number of one of its convolutions in `INVERTED_RESIDUAL`.
    """
    layers = {'stem.conv1': stem, 'conv2.0': conv2}
    for layer, count in MOBILENET_V2_BLOCKS.items():
        for block in range(count):
            for number, name in enumerate(INVERTED_RESIDUAL):
                if layer > 1 or number > 0:
                    home = f'layer{layer}.{block}.{name}'
                    layers[home] = block_layer(layer, block, number)
    return of_layers(layers)


def _v2_mmdet_layer(layer: int, block: int, number: int) -> ConvAndNorm:
    return named(f'layer{layer}.{block}.{INVERTED_RESIDUAL[number]}')


def _v2_mmpretrain_layer(layer: int, block: int, number: int) -> ConvAndNorm:
    return named(f'layer{layer}.{block}.conv.{number - (layer == 1)}')


def _v2_torchvision_layer(layer: int, block: int, number: int) -> ConvAndNorm:
    through = 1 + _before(MOBILENET_V2_BLOCKS, layer) + block
    home = f'features.{through}.conv'
    place = number - (layer == 1)
    if number < 2:
        return numbered(f'{home}.{place}')
    # The last convolution and its norm are not in a Sequential of their own.
    return f'{home}.{place}', f'{home}.{place + 1}'


SHUFFLENET_V1_FORMATS = (
    own_format(r'stage\d\.0\.compress\.'),
    CheckpointFormat(
        'authors',
        "ShuffleNet-Series (the authors')",
        (r'first_conv\.0\.weight', r'features\.0\.branch_main_1\.0\.weight'),
        _shufflenet_v1(numbered('first_conv'), _v1_authors_layer),
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
            r'(backbone\.)?layers\.0\.0\.g_conv_1x1_compress\.',
        ),
        _shufflenet_v1(named('conv1'), _v1_mmpretrain_layer),
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
        input_format=NORMALISED_RGB,
        style='mmpretrain',
    ),
    CheckpointFormat(
        'pytorchcv',
        'pytorchcv (shufflenet)',
        (
            r'features\.init_block\.conv\.weight',
            r'features\.stage1\.unit1\.compress_conv1\.weight',
        ),
        _shufflenet_v1(named('features.init_block'), _v1_pytorchcv_layer),
        classifier='output',
        input_format=NORMALISED_RGB,
        style='paper',
    ),
)
MOBILENET_V1_FORMATS = (
    own_format(r'stage\d\.0\.depthwise\.', r'stage\d\.0\.pointwise\.'),
    CheckpointFormat(
        'pytorchcv',
        'pytorchcv (mobilenet)',
        (
            r'features\.init_block\.conv\.weight',
            r'features\.stage1\.unit1\.dw_conv\.conv\.weight',
        ),
        _mobilenet_v1_pytorchcv(),
        classifier='output',
        input_format=NORMALISED_RGB,
    ),
)
MOBILENET_V2_FORMATS = (
    own_format(r'layer1\.0\.depthwise_conv\.'),
    CheckpointFormat(
        'mmdet',
        'mmdet',
        (
            r'(backbone\.)?conv1\.conv\.weight',
            r'(backbone\.)?layer1\.0\.depthwise_conv\.',
        ),
        _mobilenet_v2(named('conv1'), named('conv2'), _v2_mmdet_layer),
        prefix='backbone.',
        wrapped=True,
    ),
    CheckpointFormat(
        'mmpretrain',
        'mmpretrain',
        (
            r'(backbone\.)?conv1\.conv\.weight',
            r'(backbone\.)?layer1\.0\.conv\.0\.conv\.',
        ),
        _mobilenet_v2(named('conv1'), named('conv2'), _v2_mmpretrain_layer),
        classifier='head.fc',
        prefix='backbone.',
        wrapped=True,
        input_format=NORMALISED_RGB,
    ),
    CheckpointFormat(
        'torchvision',
        'torchvision',
        (r'features\.0\.0\.weight', r'features\.1\.conv\.0\.0\.weight'),
        _mobilenet_v2(
            numbered('features.0'),
            numbered('features.18'),
            _v2_torchvision_layer,
        ),
        classifier='classifier.1',
        input_format=NORMALISED_RGB,
    ),
)
XCEPTION_FORMATS = (own_format(r'stage\d\.0\.branch\.'),)
DENSENET_FORMATS = (own_format(r'stage\d\.0\.conv\.'),)
IGCV2_FORMATS = (own_format(r'stage\d\.0\.mix1\.'),)
PNASNET_FORMATS = (own_format(r'stage1\.0\.squeeze\.'),)


def _of_pytorchcv(
    ours: str, *theirs: str, namesakes: tuple[str, ...] = ()
) -> tuple[CheckpointFormat, ...]:
    """Formats of a network that `PytorchcvBackbone` takes from the library.

    It is there that the names' table is made, from the network itself.
    """
    library = CheckpointFormat(
        'pytorchcv', 'pytorchcv', theirs, namesakes=namesakes
    )
    return own_format(ours), library


FAMILIES = {
    'ShuffleNetV2': SHUFFLENET_V2_FORMATS,
    'ShuffleNetV1': SHUFFLENET_V1_FORMATS,
    'MobileNetV1': MOBILENET_V1_FORMATS,
    'MobileNetV2': MOBILENET_V2_FORMATS,
    'Xception': XCEPTION_FORMATS,
    'DenseNet': DENSENET_FORMATS,
    'IGCV2': IGCV2_FORMATS,
    'PNASNet': PNASNET_FORMATS,
    'IGCV3': _of_pytorchcv(
        r'stage1\.0\.conv3\.',
        r'features\.init_block\.conv\.weight',
        r'features\.stage1\.unit1\.conv3\.',
        namesakes=('MobileNetV2',),
    ),
    'CondenseNet': _of_pytorchcv(
        r'stage1\.1\.conv1\.index', r'features\.stage1\.unit1\.conv1\.index'
    ),
    'NASNet': _of_pytorchcv(
        r'stage1\.0\.unit\.', r'features\.stem1_unit\.conv1x1\.'
    ),
    'SENet': _of_pytorchcv(
        r'stage1\.0\.body\.',
        r'features\.init_block\.conv3\.conv\.weight',
        r'features\.stage1\.unit1\.se\.',
    ),
    # To be told apart only.
    'ResNet': (
        CheckpointFormat(
            'torchvision',
            'torchvision and mmdet',
            (
                r'(backbone\.)?conv1\.weight',
                r'(backbone\.)?layer1\.0\.conv1\.',
            ),
        ),
        CheckpointFormat(
            'pytorchcv',
            'pytorchcv',
            (
                r'features\.init_block\.conv\.conv\.weight',
                r'features\.stage1\.unit1\.body\.conv1\.conv\.',
            ),
        ),
    ),
}


def family_of(keys: Iterable[str]) -> str | None:
    """What keys look like: "MobileNetV2 in the format of torchvision"."""
    keys = list(keys)
    for family, formats in FAMILIES.items():
        for each in formats:
            if each.recognises(keys):
                families = ' or '.join((family, *each.namesakes))
                return f'{families} in the format of {each.title}'
    return None
