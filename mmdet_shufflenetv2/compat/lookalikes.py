"""What a checkpoint looks like, by its keys: a family, and whose file it is.

Some families and formats that no backbone here reads are known as well, so
that a wrong file is called by its name.
"""

from collections.abc import Iterable, Iterator

from .foreign_checkpoints import CheckpointFormat
from .foreign_families import FAMILIES


def _of_pytorchcv(
    *signature: str, title: str = 'pytorchcv', absent: tuple[str, ...] = ()
) -> CheckpointFormat:
    patterns = tuple(rf'features\.{each}' for each in signature)
    return CheckpointFormat('pytorchcv', title, patterns, absent=absent)


# Never loaded; a family that is in `FAMILIES` too has other formats there.
TOLD_APART = {
    'ResNet': (
        CheckpointFormat(
            'torchvision',
            'torchvision and mmdet',
            (
                r'(backbone\.)?conv1\.weight',
                r'(backbone\.)?layer1\.0\.conv1\.',
            ),
        ),
        _of_pytorchcv(
            r'init_block\.conv\.conv\.weight',
            r'stage1\.unit1\.body\.conv1\.conv\.',
        ),
    ),
    'ShuffleNetV2': (
        _of_pytorchcv(
            r'init_block\.conv\.conv\.weight',
            r'stage1\.unit1\.compress_conv1\.weight',
            r'stage1\.unit1\.dw_conv4\.weight',
            title='pytorchcv (shufflenetv2)',
        ),
    ),
    'MobileNetV2': (
        _of_pytorchcv(
            r'init_block\.conv\.weight',
            *(
                rf'stage{stage}\.unit{unit}\.conv3\.bn\.weight'
                for stage, unit in ((1, 1), (2, 2), (3, 3), (4, 7), (5, 4))
            ),
            # IGCV3 has the same names, and more units.
            absent=(r'features\.stage2\.unit3\.',),
        ),
    ),
    'DenseNet': (
        CheckpointFormat(
            'torchvision',
            'torchvision',
            (
                r'features\.conv0\.weight',
                r'features\.denseblock1\.denselayer1\.norm1\.weight',
            ),
        ),
    ),
    'PNASNet': (
        _of_pytorchcv(
            r'init_block\.conv\.weight',
            r'stem1_unit\.conv_1x1\.conv\.weight',
        ),
    ),
    'CSPDarknet': (
        CheckpointFormat(
            'mmdet',
            'mmdet',
            (
                r'(backbone\.)?stem\.conv\.conv\.weight',
                r'(backbone\.)?stage1\.1\.main_conv\.conv\.weight',
            ),
        ),
    ),
}


def known_formats() -> Iterator[tuple[str, CheckpointFormat]]:
    """Every family and format that can be told apart."""
    for table in (FAMILIES, TOLD_APART):
        for family, formats in table.items():
            for each in formats:
                yield family, each


def family_of(keys: Iterable[str]) -> str | None:
    """What keys look like: "MobileNetV2 in the format of torchvision"."""
    keys = list(keys)
    for family, each in known_formats():
        if each.recognises(keys):
            return f'{family} in the format of {each.title}'
    return None
