"""COCO train+val minus minival, and minival, out of what is on disk.

The split of the ShuffleNet V2 paper (Section 4, from the 2014 release) holds
the same images as the 2017 release: ``minival2014`` is ``val2017`` and
``trainvalminusminival2014`` is ``train2017``, 5000 and 118287 images. With the
2014 files two annotation files are made; the 2017 files are used as they are.
Either way the result is checked to be the whole split with every image there.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .coco import load_coco, whole_number
from .listing import Listing
from .table import DatasetError, read_text, shorten

NUM_TRAIN, NUM_VAL = 118_287, 5_000


class Split(NamedTuple):
    """``ann_file`` and ``img_prefix`` are relative to the data root."""

    ann_file: str
    img_prefix: str


#: The training and the validation split by layout.
LAYOUTS = {
    '2014': (
        Split('annotations/instances_trainvalminusminival2014.json', ''),
        Split('annotations/instances_minival2014.json', ''),
    ),
    '2017': (
        Split('annotations/instances_train2017.json', 'train2017'),
        Split('annotations/instances_val2017.json', 'val2017'),
    ),
}
_SOURCES_2014 = (
    Split('annotations/instances_train2014.json', 'train2014'),
    Split('annotations/instances_val2014.json', 'val2014'),
)
_MINIVAL_SOURCE = 'annotations/instances_val2017.json'


def _missing_parts(root: Path, layout: str, minival_ids) -> list[str]:
    """What a layout needs below the root and does not find there."""
    splits = _SOURCES_2014 if layout == '2014' else LAYOUTS['2017']
    files = [split.ann_file for split in splits]
    if layout == '2014' and minival_ids is None:
        files.append(_MINIVAL_SOURCE)
    return [name for name in files if not (root / name).is_file()] + [
        f'{split.img_prefix}/'
        for split in splits
        if not (root / split.img_prefix).is_dir()
    ]


def choose_layout(
    root: str | os.PathLike,
    layout: str = 'auto',
    minival_ids: str | os.PathLike | None = None,
) -> str:
    """Which release lies below the root.

    Args:
        root: The folder with ``annotations/`` and the image folders.
        layout: '2014', '2017', or 'auto' for the one that is complete
            (2017 when both are).
        minival_ids: A list of image ids that replaces
            ``instances_val2017.json`` in the 2014 layout.

    Raises:
        ValueError: An unknown layout.
        DatasetError: Something is missing; tells what, for each layout.
    """
    root = Path(root)
    if layout not in ('auto', *LAYOUTS):
        raise ValueError(
            f"expected layout to be 'auto', '2014' or '2017', got {layout!r}"
        )
    candidates = ('2017', '2014') if layout == 'auto' else (layout,)
    missing = {
        name: _missing_parts(root, name, minival_ids) for name in candidates
    }
    for name, parts in missing.items():
        if not parts:
            if minival_ids and name != '2014':
                raise DatasetError(
                    f'--minival-ids is for the 2014 layout, but {root} has '
                    f'the {name} layout; leave it out, or add --layout 2014'
                )
            return name
    lines = [f'{root} holds no complete COCO data set:']
    if not root.is_dir():
        lines[0] = f'{root} is not a folder; COCO is expected there:'
    for name, parts in missing.items():
        lines.append(f'  {name} layout lacks {", ".join(parts)}')
    lines.append(
        'Get the zip files from https://cocodataset.org/#download and unpack '
        f'them below {root}.'
    )
    if '2014' in missing and minival_ids is None:
        lines.append(
            f'The 2014 layout takes the minival ids from {_MINIVAL_SOURCE} '
            '(only this file of 2017) or from a list: --minival-ids FILE.'
        )
    raise DatasetError('\n'.join(lines))


def read_minival_ids(path: str | os.PathLike) -> set[int]:
    """Image ids out of a COCO file, a JSON list, or one id per line.

    Raises:
        DatasetError: Names the line or element that is not an id, or is a
            duplicate.
    """
    text = read_text(path)
    if text.lstrip()[:1] == '{':
        entries = [image.get('id') for image in load_coco(str(path))['images']]
    elif text.lstrip()[:1] == '[':
        try:
            entries = json.loads(text)
        except ValueError as error:
            raise DatasetError(f'{path}: broken JSON, {error}') from error
    else:
        entries = text.split()
    ids: set[int] = set()
    for position, entry in enumerate(entries, 1):
        number = whole_number(entry)
        if number is None or number in ids:
            wrong = 'not an image id' if number is None else 'a duplicate'
            raise DatasetError(f'{path}: entry {position}, {entry!r}: {wrong}')
        ids.add(number)
    if not ids:
        raise DatasetError(f'{path} holds no image id')
    return ids


def prepare(
    root: str | os.PathLike,
    layout: str = 'auto',
    minival_ids: str | os.PathLike | None = None,
    counts: tuple[int | None, int | None] = (NUM_TRAIN, NUM_VAL),
    say: Callable[[str], Any] = lambda text: None,
) -> str:
    """Make or check the splits below the root.

    Args:
        root: The COCO folder.
        layout: See :func:`choose_layout`.
        minival_ids: File of minival ids; by default the images of
            ``instances_val2017.json``. The 2014 layout only.
        counts: Images that the two splits must have; None for any number.
        say: Called with the name of each file that is read.

    Returns:
        The layout that was found, a key of :data:`LAYOUTS`.

    Raises:
        DatasetError: What is missing or wrong; no split has been written.
    """
    root = Path(root)
    layout = choose_layout(root, layout, minival_ids)
    if layout == '2017':
        contents = []
        for split in LAYOUTS['2017']:
            say(split.ann_file)
            data = load_coco(str(root / split.ann_file))
            _prefix_names(data, split)
            contents.append(data)
    else:
        ids = read_minival_ids(minival_ids or root / _MINIVAL_SOURCE)
        contents = _split_2014(root, ids, say)
    problems = []
    listing = Listing([root])
    numbers = []
    for split, data, count in zip(
        LAYOUTS[layout], contents, counts, strict=True
    ):
        found, ids = _problems(split.ann_file, data, count, listing)
        problems += found
        numbers.append(ids)
    both = sorted(numbers[0] & numbers[1], key=str)
    if both:
        problems.append(
            f'{LAYOUTS[layout][0].ann_file} and {LAYOUTS[layout][1].ann_file} '
            f'share {len(both)} images: id {shorten(both)}'
        )
    if problems:
        raise DatasetError('\n'.join(problems))
    if layout == '2014':
        for split, data in zip(LAYOUTS[layout], contents, strict=True):
            _write(root / split.ann_file, data)
    return layout


def _prefix_names(data: dict, split: Split) -> None:
    for image in data['images']:
        image['file_name'] = f'{split.img_prefix}/{image.get("file_name")}'


def _split_2014(root: Path, minival: set[int], say) -> list[dict]:
    """Training and validation data; images are named with their folder."""
    contents: list[dict] = []
    absent = set(minival)
    for source in _SOURCES_2014:
        say(source.ann_file)
        data = load_coco(str(root / source.ann_file), masks=True)
        _prefix_names(data, source)
        if not contents:
            contents = [
                {**data, 'images': [], 'annotations': []} for _ in range(2)
            ]
        elif data['categories'] != contents[0]['categories']:
            raise DatasetError(
                f'{_SOURCES_2014[0].ann_file} and {source.ann_file} have '
                'different categories'
            )
        for key, name in ('images', 'id'), ('annotations', 'image_id'):
            for record in data[key]:
                number = whole_number(record.get(name))
                contents[number in minival][key].append(record)
                if key == 'images':
                    absent.discard(number)
    if absent:
        raise DatasetError(
            f'{len(absent)} minival ids are in neither 2014 file: '
            f'{shorten(sorted(absent))}'
        )
    return contents


def _problems(
    name: str, data: dict, count: int | None, listing: Listing
) -> tuple[list[str], set[int]]:
    """What is wrong with a split as a whole, and the ids of its images."""
    ids = [_key(image.get('id')) for image in data['images']]
    unique = set(ids)
    owners = {_key(ann.get('image_id')) for ann in data['annotations']}
    numbers = [_key(ann.get('id')) for ann in data['annotations']]
    strange = [key for key in (*ids, *numbers) if type(key) is not int]
    absent = [
        f'{image["file_name"]} (id {image.get("id")})'
        for image in data['images']
        if image['file_name'] not in listing.paths
    ]
    stray = sorted(map(str, owners - unique))
    checks: Iterable[tuple[Any, str]] = (
        (
            count is not None and len(ids) != count,
            f'{name} must have {count} images, but has {len(ids)}',
        ),
        (
            strange,
            f'{name}: ids that are not whole numbers: {shorten(strange)}',
        ),
        *(
            (again, f'{name}: duplicate {kind} ids: {shorten(again)}')
            for kind, keys in (('image', ids), ('annotation', numbers))
            for again in [[k for k, n in Counter(keys).items() if n > 1]]
        ),
        (
            absent,
            f'{name} lists {len(absent)} images that are not there: '
            f'{shorten(absent)}',
        ),
        (
            stray,
            f'{name} has annotations of {len(stray)} images that it does not '
            f'list: image_id {shorten(stray)}',
        ),
        (not numbers, f'{name} has no annotations'),
    )
    return [text for wrong, text in checks if wrong], unique


def _key(value: object) -> int | str:
    """An id, or the text of what is not one."""
    return value if type(value) is int else repr(value)


def _write(path: Path, data: dict) -> None:
    """Write a file whole or not at all."""
    with tempfile.TemporaryDirectory(
        prefix=f'.{path.name}.', dir=path.parent
    ) as folder:
        whole = Path(folder, path.name)
        with open(whole, 'w', encoding='utf-8') as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)


def config_options(layout: str, data_root: str) -> dict[str, str]:
    """``--cfg-options`` that point a COCO config at a layout's splits.

    Args:
        layout: A key of :data:`LAYOUTS`.
        data_root: The COCO folder with a slash at its end.
    """
    train, val = LAYOUTS[layout]
    options = {}
    for loader, split in (('train', train), ('val', val), ('test', val)):
        prefix = f'{loader}_dataloader.dataset'
        options[f'{prefix}.data_root'] = data_root
        options[f'{prefix}.ann_file'] = split.ann_file
        options[f'{prefix}.data_prefix.img'] = f'{split.img_prefix or "."}/'
    for evaluator in ('val_evaluator', 'test_evaluator'):
        options[f'{evaluator}.ann_file'] = data_root + val.ann_file
    return options
