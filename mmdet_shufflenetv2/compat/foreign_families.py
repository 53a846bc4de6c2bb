"""How the weights of the families beside ShuffleNet V2 are named."""

from collections.abc import Callable, Mapping

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


_G3_AND_G8 = tuple(
    f'shufflenet_v1_x{width}_g{groups}'
    for groups in (3, 8)
    for width in ('0_5', '1_0', '1_5', '2_0')
)
# Elsewhere the stem is as wide as the stages, which the authors' is not.
_AS_WIDE_A_STEM = (
    *(f'shufflenet_v1_x1_0_g{groups}' for groups in (1, 2, 3, 4, 8)),
    *('shufflenet_v1_x0_5_g3', 'shufflenet_v1_x2_0_g3'),
    'shufflenet_v1_x2_0_g8',
)
# Of narrower ones the channels are rounded in another way here.
_WIDE_MOBILENETS = ('mobilenet_v2_x1_0', 'mobilenet_v2_x1_4')
SHUFFLENET_V1_FORMATS = (
    own_format(r'stage\d\.0\.compress\.'),
    CheckpointFormat(
        'authors',
        "ShuffleNet-Series (the authors')",
        (r'first_conv\.0\.weight', r'features\.0\.branch_main_1\.0\.weight'),
        _shufflenet_v1(numbered('first_conv'), _v1_authors_layer),
        networks=_G3_AND_G8,
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
        networks=_AS_WIDE_A_STEM,
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
        networks=_AS_WIDE_A_STEM,
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
        networks=_WIDE_MOBILENETS,
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
        networks=_WIDE_MOBILENETS,
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
        networks=_WIDE_MOBILENETS,
        classifier='classifier.1',
        input_format=NORMALISED_RGB,
    ),
)
XCEPTION_FORMATS = (own_format(r'stage\d\.0\.branch\.'),)
# mmdet's CSPDarknet has a stem and convolutions in stages as well.
DENSENET_FORMATS = (own_format(r'stem\.conv1\.', r'stage\d\.0\.conv\.'),)
IGCV2_FORMATS = (own_format(r'stage\d\.0\.mix1\.'),)
PNASNET_FORMATS = (own_format(r'stage1\.0\.squeeze\.'),)


def _of_pytorchcv(
    ours: str,
    *theirs: str,
    networks: tuple[str, ...] | None = None,
    only_backbone: str | None = None,
) -> tuple[CheckpointFormat, ...]:
    """Formats of a network that `PytorchcvBackbone` takes from the library.

    It is there that the names' table is made, from the network itself.
    """
    library = CheckpointFormat(
        'pytorchcv',
        'pytorchcv',
        theirs,
        networks=networks,
        only_backbone=only_backbone,
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
        r'features\.stage1\.unit1\.conv3\.bn\.',
        # MobileNet V2 and DPN have the same names, and fewer units there.
        r'features\.stage4\.unit14\.conv3\.',
        # The library rounds the channels of the others in another way.
        networks=('igcv3_d_1_0',),
    ),
    'CondenseNet': _of_pytorchcv(
        r'stage1\.1\.conv1\.index',
        r'features\.stage1\.unit1\.conv1\.index',
        only_backbone='reads half of the channels, those in output.index',
    ),
    'NASNet': _of_pytorchcv(
        r'stage1\.0\.unit\.', r'features\.stem1_unit\.conv1x1\.'
    ),
    'SENet': _of_pytorchcv(
        r'stage1\.0\.body\.',
        r'features\.init_block\.conv3\.conv\.weight',
        r'features\.stage1\.unit1\.se\.',
    ),
}
