"""COCO train+val minus minival, and minival, out of what is on disk.

The split of the ShuffleNet V2 paper (Section 4, from the 2014 release) holds
the same images as the 2017 release: ``minival2014`` is ``val2017`` and
``trainvalminusminival2014`` is ``train2017``, 5000 and 118287 images. With the
2014 files two annotation files are made; the 2017 files are used as they are.
Either way the result is checked to be the whole split with every image there.
"""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from .coco_stream import CocoWriter, DatasetError, iter_records
from .split_check import SplitCheck, examples, verify_pair

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


def missing_parts(
    root: Path, layout: str, minival_ids: str | os.PathLike | None = None
) -> list[str]:
    """What a layout needs below the root and does not find there."""
    splits = _SOURCES_2014 if layout == '2014' else LAYOUTS['2017']
    files = [split.ann_file for split in splits]
    if layout == '2014' and minival_ids is None:
        files.append(_MINIVAL_SOURCE)
    missing = [name for name in files if not (root / name).is_file()]
    for split in splits:
        if not (root / split.img_prefix).is_dir():
            missing.append(split.img_prefix.rstrip('/') + '/')
    return missing


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
            f"layout must be 'auto', '2014' or '2017', but got {layout!r}"
        )
    candidates = ('2017', '2014') if layout == 'auto' else (layout,)
    missing = {
        name: missing_parts(root, name, minival_ids) for name in candidates
    }
    for name, parts in missing.items():
        if not parts:
            return name
    lines = [f'{root} holds no complete COCO data set:']
    if not root.is_dir():
        lines[0] = f'{root} is no folder; COCO is expected there:'
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
        DatasetError: Names the line or element that is no id or comes twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f'the list of minival ids {path} does not exist')
    with open(path, encoding='utf-8-sig') as file:
        first = file.read(4096).lstrip()[:1]
    if first == '{':
        entries = []
        for record in iter_records(path):
            # In COCO's own files the images come first.
            if record.section == 'annotations' and entries:
                break
            if record.section == 'images':
                entries.append(record.value.get('id'))
    elif first == '[':
        try:
            entries = json.loads(path.read_text('utf-8-sig'))
        except json.JSONDecodeError as error:
            raise DatasetError(f'{path}: broken JSON, {error}') from error
    else:
        lines = path.read_text('utf-8-sig').split()
        entries = [int(x) if x.isdecimal() else x for x in lines]
    ids: set[int] = set()
    for position, entry in enumerate(entries):
        known = _is_in(ids, entry)
        if known or type(entry) is not int:
            wrong = 'comes twice' if known else 'is no image id'
            raise DatasetError(
                f'{path}: entry {position + 1}, {entry!r}, {wrong}'
            )
        ids.add(entry)
    if not ids:
        raise DatasetError(f'{path} holds no image id')
    return ids


def check_2017(
    root: Path,
    counts: tuple[int | None, int | None],
    progress: Callable[[int], Any] | None,
) -> None:
    """Check train2017 and val2017 where they are; nothing is written."""
    checks = []
    for split, count in zip(LAYOUTS['2017'], counts, strict=True):
        check = SplitCheck(split.ann_file, root, count)
        for record in iter_records(root / split.ann_file, progress):
            if record.section == 'images':
                check.add_image(split.ann_file, record, split.img_prefix)
            elif record.section == 'annotations':
                check.add_annotation(split.ann_file, record)
        checks.append(check)
    verify_pair(*checks)


def make_2014(
    root: Path,
    minival_ids: set[int],
    counts: tuple[int | None, int | None],
    progress: Callable[[int], Any] | None,
) -> None:
    """Write the two 2014 splits; images are named with their folder."""
    splits = LAYOUTS['2014']
    checks = [
        SplitCheck(split.ann_file, root, count)
        for split, count in zip(splits, counts, strict=True)
    ]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(CocoWriter(root / split.ann_file))
            for split in splits
        ]
        categories: list[list] = []
        for source in _SOURCES_2014:
            categories.append([])
            for record in iter_records(root / source.ann_file, progress):
                _route(
                    record, source, minival_ids, checks, writers, categories
                )
        if categories[0] != categories[1]:
            raise DatasetError(
                f'{_SOURCES_2014[0].ann_file} and {_SOURCES_2014[1].ann_file} '
                'have different categories'
            )
        absent = sorted(minival_ids - checks[1].ids)
        if absent:
            raise DatasetError(
                f'{len(absent)} minival ids are in neither 2014 file: '
                f'{examples(absent)}'
            )
        # Inside the block: a split that fails the check is never renamed.
        verify_pair(*checks)


def _is_in(ids: set[int], value: Any) -> bool:
    # What is no number may not even have a hash; the check names it.
    return type(value) is int and value in ids


def _route(record, source, minival_ids, checks, writers, categories) -> None:
    """Send a record of a 2014 file to the split it belongs to."""
    value = record.value
    if record.section == 'images':
        side = _is_in(minival_ids, value.get('id'))
        checks[side].add_image(source.ann_file, record, source.img_prefix)
        name = f'{source.img_prefix}/{value["file_name"]}'
        text = json.dumps({**value, 'file_name': name})
        writers[side].add('images', text)
    elif record.section == 'annotations':
        side = _is_in(minival_ids, value.get('image_id'))
        checks[side].add_annotation(source.ann_file, record)
        writers[side].add('annotations', record.text)
    else:
        if record.section == 'categories':
            categories[-1].append(value)
        if source is _SOURCES_2014[0]:
            for writer in writers:
                if record.section == 'categories':
                    writer.add('categories', record.text)
                else:
                    writer.set_entry(record.section, record.text)


def source_files(
    root: Path, layout: str, minival_ids: str | os.PathLike | None = None
) -> list[Path]:
    """The annotation files that a layout is made or checked from."""
    splits = _SOURCES_2014 if layout == '2014' else LAYOUTS['2017']
    return [root / split.ann_file for split in splits]


def prepare(
    root: str | os.PathLike,
    layout: str = 'auto',
    minival_ids: str | os.PathLike | None = None,
    counts: tuple[int | None, int | None] = (NUM_TRAIN, NUM_VAL),
    progress: Callable[[int], Any] | None = None,
) -> str:
    """Make or check the splits below the root.

    Args:
        root: The COCO folder.
        layout: See :func:`choose_layout`.
        minival_ids: File of minival ids; by default the images of
            ``instances_val2017.json``. The 2014 layout only.
        counts: Images that the two splits must have; None for any number.
        progress: Called with the number of characters read since last time.

    Returns:
        The layout that was found, a key of :data:`LAYOUTS`.

    Raises:
        DatasetError: What is missing or wrong; no split has been written.
    """
    root = Path(root)
    layout = choose_layout(root, layout, minival_ids)
    if layout == '2017':
        check_2017(root, counts, progress)
    else:
        ids = read_minival_ids(minival_ids or root / _MINIVAL_SOURCE)
        make_2014(root, ids, counts, progress)
    return layout


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
