"""Preparing COCO train+val minus minival, and minival, from files on disk.

The splits of the ShuffleNet V2 paper (Section 4, from the 2014 release) have
the same images as the 2017 release: ``minival2014`` is ``val2017`` and
``trainvalminusminival2014`` is ``train2017``, 5000 and 118287 images. From the
2014 files two annotation files are made; the 2017 files are used as they are.
Either way, both splits are checked to be complete, with every image present.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .coco import load_coco, parse_id
from .reading import read_boxes
from .table import DatasetError, Source, read_text, shorten

NUM_TRAIN, NUM_VAL = 118_287, 5_000


class Split(NamedTuple):
    """Annotation file and image folder, relative to the data root."""

    ann_file: str
    img_prefix: str


def _split(name: str, img_prefix: str = '') -> Split:
    return Split(f'annotations/instances_{name}.json', img_prefix)


#: The training and the validation split of each layout.
LAYOUTS = {
    '2017': (_split('train2017', 'train2017'), _split('val2017', 'val2017')),
    '2014': (_split('trainvalminusminival2014'), _split('minival2014')),
}
#: The files and folders that each layout requires.
_SOURCES = {
    '2017': LAYOUTS['2017'],
    '2014': (_split('train2014', 'train2014'), _split('val2014', 'val2014')),
}
_MINIVAL_SOURCE = _split('val2017').ann_file


def _choose_layout(root: Path, minival_ids) -> str:
    """Return the layout, '2014' or '2017', that is complete."""
    incomplete = ''
    for name in ['2014'] if minival_ids else LAYOUTS:
        parts = [split.ann_file for split in _SOURCES[name]]
        if name == '2014' and not minival_ids:
            parts.append(_MINIVAL_SOURCE)
        parts += [f'{split.img_prefix}/' for split in _SOURCES[name]]
        missing = [part for part in parts if not (root / part).exists()]
        if not missing:
            return name
        incomplete += f'  {name} layout lacks {", ".join(missing)}\n'
    raise DatasetError(
        f'{root} holds no complete COCO data set:\n{incomplete}Unpack the zip '
        'files of https://cocodataset.org/#download there. '
        'The 2014 layout accepts a list of minival ids, --minival-ids FILE, '
        f'instead of {_MINIVAL_SOURCE}.'
    )


def read_minival_ids(path: str | os.PathLike) -> set[int]:
    """Read image ids from a COCO file, a JSON list, or one id per line."""
    text = read_text(path)
    if text.lstrip()[:1] == '{':
        entries = [image.get('id') for image in load_coco(str(path))['images']]
    else:
        entries = [e for e in re.split(r'[\s,\[\]]+', text) if e]
    ids = set(map(parse_id, entries))
    if not ids or None in ids or len(ids) < len(entries):
        raise DatasetError(
            f'{path}: expected unique image ids, got {shorten(entries)}'
        )
    return ids


def prepare(
    root: str | os.PathLike,
    minival_ids: str | os.PathLike | None = None,
    counts: tuple[int | None, int | None] = (NUM_TRAIN, NUM_VAL),
    say: Callable[[str], Any] = lambda text: None,
) -> str:
    """Make the 2014 splits, or check the 2017 splits.

    Args:
        root: The COCO folder.
        minival_ids: File of minival ids, for the 2014 layout. Without it, the
            first complete layout is used, 2017 before 2014, which then takes
            the images of ``instances_val2017.json``.
        counts: Required numbers of images in the two splits; None for any.
        say: Called with the name of each file that is read.

    Returns:
        The layout that was found.

    Raises:
        DatasetError: Data are missing or wrong. No split has been written.
    """
    root = Path(root)
    layout = _choose_layout(root, minival_ids)
    if layout == '2017':
        _check(root, layout, root / 'annotations', counts, say)
        return layout
    ids = read_minival_ids(minival_ids or root / _MINIVAL_SOURCE)
    contents = _split_2014(root, ids, say)
    with tempfile.TemporaryDirectory(
        prefix='.splits.', dir=root / 'annotations'
    ) as folder:
        names = [Path(split.ann_file).name for split in LAYOUTS['2014']]
        for name, content in zip(names, contents, strict=True):
            Path(folder, name).write_text(json.dumps(content), 'utf-8')
        _check(root, layout, Path(folder), counts, say)
        for name in names:
            Path(folder, name).replace(root / 'annotations' / name)
    return layout


def _check(root: Path, layout: str, folder: Path, counts, say) -> None:
    """Raise an error if splits are incomplete, lack images or overlap."""
    problems, ids = [], []
    for split, count in zip(LAYOUTS[layout], counts, strict=True):
        name, images = split.ann_file, str(root / split.img_prefix)
        say(name)
        path = str(folder / Path(name).name)
        table = read_boxes(Source('COCO', path, (images,)))
        if table.errors:
            problems.append(f'{name}:{table.errors}')
        elif len(table) != (count or len(table)) or not len(table.boxes):
            problems.append(
                f'{name}: expected {count or "some"} images with boxes, got '
                f'{len(table)} images with {len(table.boxes)} boxes'
            )
        ids.append(table.image_ids)
    shared = np.intersect1d(*ids).tolist()
    if shared:
        problems.append(
            f'the two splits share {len(shared)} images: id {shorten(shared)}'
        )
    if problems:
        raise DatasetError('\n'.join(problems))


def _split_2014(root: Path, minival: set[int], say) -> list[dict]:
    """Divide the 2014 data; image names get their folder as a prefix."""
    contents: list[dict] = []
    absent = set(minival)
    for source in _SOURCES['2014']:
        say(source.ann_file)
        data = load_coco(str(root / source.ann_file), masks=True)
        contents = contents or [
            {**data, 'images': [], 'annotations': []} for _ in range(2)
        ]
        if data['categories'] != contents[0]['categories']:
            raise DatasetError('the two 2014 files have different categories')
        for image in data['images']:
            image['file_name'] = f'{source.img_prefix}/{image["file_name"]}'
            absent.discard(parse_id(image.get('id')))
        for section, key in ('images', 'id'), ('annotations', 'image_id'):
            for record in data[section]:
                side = parse_id(record.get(key)) in minival
                contents[side][section].append(record)
    if absent:
        raise DatasetError(
            f'{len(absent)} minival ids are in neither 2014 file: '
            f'{shorten(sorted(absent))}'
        )
    return contents
