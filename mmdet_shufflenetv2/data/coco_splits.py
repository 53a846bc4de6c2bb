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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .coco import load_coco, whole_number
from .reading import read_boxes
from .table import DatasetError, Source, read_text, shorten

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
    splits = LAYOUTS[layout]
    if layout == '2017':
        paths = [root / split.ann_file for split in splits]
        for split in splits:
            say(split.ann_file)
        _check(root, splits, paths, counts)
        return layout
    ids = read_minival_ids(minival_ids or root / _MINIVAL_SOURCE)
    contents = _split_2014(root, ids, say)
    with tempfile.TemporaryDirectory(
        prefix='.splits.', dir=root / 'annotations'
    ) as folder:
        paths = [Path(folder, Path(split.ann_file).name) for split in splits]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(json.dumps(content), 'utf-8')
        _check(root, splits, paths, counts)
        for split, path in zip(splits, paths, strict=True):
            path.replace(root / split.ann_file)
    return layout


def _check(root: Path, splits, paths: list[Path], counts) -> None:
    """Refuse splits that are not whole, lack images or overlap."""
    problems, ids = [], []
    for split, path, count in zip(splits, paths, counts, strict=True):
        folder = str(root / split.img_prefix)
        table = read_boxes(Source('COCO', str(path), (folder,)))
        name, found = split.ann_file, len(table)
        if table.errors:
            problems.append(f'{name}:{table.errors}')
        elif count is not None and found != count:
            problems.append(
                f'{name} must have {count} images, but has {found}'
            )
        elif not len(table.boxes):
            problems.append(f'{name} has no annotations')
        ids.append(table.image_ids)
    both = np.intersect1d(*ids).tolist()
    if both:
        problems.append(
            f'{splits[0].ann_file} and {splits[1].ann_file} share '
            f'{len(both)} images: id {shorten(both)}'
        )
    if problems:
        raise DatasetError('\n'.join(problems))


def _split_2014(root: Path, minival: set[int], say) -> list[dict]:
    """Training and validation data; images are named with their folder."""
    contents: list[dict] = []
    absent = set(minival)
    for source in _SOURCES_2014:
        say(source.ann_file)
        data = load_coco(str(root / source.ann_file), masks=True)
        if not contents:
            contents = [
                {**data, 'images': [], 'annotations': []} for _ in range(2)
            ]
        elif data['categories'] != contents[0]['categories']:
            raise DatasetError(
                f'{_SOURCES_2014[0].ann_file} and {source.ann_file} have '
                'different categories'
            )
        for image in data['images']:
            image['file_name'] = f'{source.img_prefix}/{image["file_name"]}'
            absent.discard(whole_number(image.get('id')))
        for section, key in ('images', 'id'), ('annotations', 'image_id'):
            for record in data[section]:
                side = whole_number(record.get(key)) in minival
                contents[side][section].append(record)
    if absent:
        raise DatasetError(
            f'{len(absent)} minival ids are in neither 2014 file: '
            f'{shorten(sorted(absent))}'
        )
    return contents


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
