"""How ShuffleNet V2's weights are named where they are published.

A format is recognised by its keys and translated to this package's names;
the values stay as they are, because the networks are numerically the same.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

NORMALISED_RGB = (
    'RGB, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], '
    'bgr_to_rgb=True'
)
RAW_BGR = 'BGR 0-255, mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=False'

# Position in a branch, as torchvision and the authors number its layers,
# counting activations -> our name.
BRANCH1 = {
    '0': 'depthwise.conv',
    '1': 'depthwise.bn',
    '2': 'pointwise.conv',
    '3': 'pointwise.bn',
}
BRANCH2 = {
    '0': 'pointwise1.conv',
    '1': 'pointwise1.bn',
    '3': 'depthwise.conv',
    '4': 'depthwise.bn',
    '5': 'pointwise2.conv',
    '6': 'pointwise2.bn',
}
CONV_BN = {'0': 'conv', '1': 'bn'}

Rename = Callable[[str], str | None]


@dataclass(frozen=True)
class CheckpointFormat:
    """A way to name a network's weights.

    Attributes:
        name: what to call it in messages.
        signature: patterns; each one matches some key of such a file.
        renamer: given all keys, makes the function from a key to our name;
            it answers None for a key it does not know.
        ignored: pattern of the keys a backbone has no use for.
        image_format: what the weights expect of ``data_preprocessor``.
        style: the ``style`` of network that such weights fit; None for any.
    """

    name: str
    signature: tuple[str, ...]
    renamer: Callable[[Iterable[str]], Rename]
    ignored: str = r'(?!)'
    image_format: str = 'that of the run which wrote it'
    style: str | None = None

    def recognises(self, keys: Iterable[str]) -> bool:
        keys = list(keys)
        return all(
            any(re.match(pattern, key) for key in keys)
            for pattern in self.signature
        )


def _branch(number: str, layer: str) -> str | None:
    name = (BRANCH1 if number == '1' else BRANCH2).get(layer)
    return name and f'branch{number}.{name}'


def _ours(keys: Iterable[str]) -> Rename:
    return lambda key: key


def _torchvision(keys: Iterable[str]) -> Rename:
    def rename(key: str) -> str | None:
        if m := re.fullmatch(r'(conv1|conv5)\.([01])\.(\w+)', key):
            home = {'conv1': 'stem.conv1', 'conv5': 'conv5.0'}[m[1]]
            return f'{home}.{CONV_BN[m[2]]}.{m[3]}'
        pattern = r'(stage[234]\.\d+)\.branch([12])\.(\d)\.(\w+)'
        if m := re.fullmatch(pattern, key):
            layer = _branch(m[2], m[3])
            return layer and f'{m[1]}.{layer}.{m[4]}'
        return None

    return rename


def _authors(keys: Iterable[str]) -> Rename:
    # Units are numbered through; one with a projection opens a stage.
    pattern = r'features\.(\d+)\.branch_(main|proj)\.'
    found = [m for m in (re.match(pattern, key) for key in keys) if m]
    openings = sorted({int(m[1]) for m in found if m[2] == 'proj'})

    def rename(key: str) -> str | None:
        if m := re.fullmatch(r'(first_conv|conv_last)\.([01])\.(\w+)', key):
            home = {'first_conv': 'stem.conv1', 'conv_last': 'conv5.0'}[m[1]]
            return f'{home}.{CONV_BN[m[2]]}.{m[3]}'
        pattern = r'features\.(\d+)\.branch_(main|proj)\.(\d)\.(\w+)'
        if not (m := re.fullmatch(pattern, key)):
            return None
        unit = int(m[1])
        earlier = [opening for opening in openings if opening <= unit]
        layer = _branch('1' if m[2] == 'proj' else '2', m[3])
        if not earlier or not layer:
            return None
        home = f'stage{1 + len(earlier)}.{unit - earlier[-1]}'
        return f'{home}.{layer}.{m[4]}'

    return rename


def _mmpretrain(keys: Iterable[str]) -> Rename:
    branches = {
        '1': ('depthwise', 'pointwise'),
        '2': ('pointwise1', 'depthwise', 'pointwise2'),
    }

    def rename(key: str) -> str | None:
        if m := re.fullmatch(r'(conv1|layers\.3)\.((?:conv|bn)\.\w+)', key):
            home = {'conv1': 'stem.conv1', 'layers.3': 'conv5.0'}[m[1]]
            return f'{home}.{m[2]}'
        pattern = (
            r'layers\.([012])\.(\d+)\.branch([12])\.(\d)\.((?:conv|bn)\.\w+)'
        )
        if m := re.fullmatch(pattern, key):
            names = branches[m[3]]
            if int(m[4]) < len(names):
                unit = f'stage{int(m[1]) + 2}.{m[2]}'
                return f'{unit}.branch{m[3]}.{names[int(m[4])]}.{m[5]}'
        return None

    return rename


OWN_FORMAT = CheckpointFormat('mmdet_shufflenetv2', (r'stem\.',), _ours)
SHUFFLENET_V2_FORMATS = (
    OWN_FORMAT,
    CheckpointFormat(
        'torchvision',
        (r'conv1\.0\.weight', r'stage2\.0\.branch1\.0\.weight'),
        _torchvision,
        r'fc\.',
        NORMALISED_RGB,
        'torchvision',
    ),
    CheckpointFormat(
        "ShuffleNet-Series (the authors')",
        (r'first_conv\.0\.weight', r'features\.0\.branch_main\.0\.weight'),
        _authors,
        r'classifier\.',
        RAW_BGR,
        'authors',
    ),
    CheckpointFormat(
        'mmpretrain',
        (r'conv1\.conv\.weight', r'layers\.0\.0\.branch1\.0\.conv\.weight'),
        _mmpretrain,
        r'(head|fc)\.',
        NORMALISED_RGB,
        'torchvision',
    ),
)
