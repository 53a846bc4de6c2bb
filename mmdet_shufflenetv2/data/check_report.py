"""What the check of an annotation file found, and the file to go on with."""

import codecs
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .coco_stream import (
    SECTIONS,
    CocoWriter,
    DatasetError,
    Record,
    iter_records,
)

#: What the names of repaired copies end in.
CHECKED_SUFFIX = '.checked.json'
#: How many records of each kind a message shows.
MAX_EXAMPLES = 5


class Problems:
    """Messages by kind: how many there are, and the first few."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        shown = self._found.setdefault(kind, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append(example)
        self._counts[kind] = self._counts.get(kind, 0) + count

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return ''.join(f'\n  {line}' for line in self.lines())

    def lines(self) -> list[str]:
        lines = []
        for kind, shown in self._found.items():
            lines.append(f'{self._counts[kind]} x {kind}:')
            lines += [f'    {example}' for example in shown]
            rest = self._counts[kind] - len(shown)
            if rest > 0:
                lines.append(f'    ... and {rest} more')
        return lines


def explain(error: Exception) -> str:
    """What reading a record's fields failed for."""
    if isinstance(error, KeyError):
        return f'it has no {error.args[0]}'
    return str(error)


def shorten(items: Sequence) -> str:
    """The first ten of a list in words."""
    return ', '.join(map(str, items[:10])) + (', ...' if items[10:] else '')


def records_of(
    ann_file: Path,
    data: dict | None,
    progress: Callable[[int], Any] | None = None,
) -> Iterator[Record]:
    """Records out of loaded ``data``, or else out of the file."""
    if data is None:
        yield from iter_records(ann_file, progress)
        return
    if not isinstance(data, dict):
        raise DatasetError(
            f'{ann_file}: a COCO file is a JSON object, but this holds a '
            f'{type(data).__name__}'
        )
    for key, value in data.items():
        if key not in SECTIONS:
            yield Record(key, -1, value, json.dumps(value))
            continue
        for index, item in enumerate(value):
            yield Record(key, index, item, json.dumps(item))


def reorder_categories(
    categories: dict[int, str], classes: Sequence[str] | None
) -> list[dict] | None:
    """The categories in the order of the classes; None if they are."""
    names = list(categories.values())
    if classes is None or list(classes) == [n for n in names if n in classes]:
        return None
    number_of = {name: number for number, name in categories.items()}
    unused = max(number_of.values()) + 1
    for name in classes:
        if name not in number_of:
            number_of[name] = unused
            unused += 1
    order = [*classes, *(name for name in names if name not in classes)]
    return [{'id': number_of[name], 'name': name} for name in order]


def _has_byte_order_mark(path: Path) -> bool:
    """Whether a file starts with what pycocotools cannot read."""
    with open(path, 'rb') as file:
        return file.read(3) == codecs.BOM_UTF8


class CheckReport:
    """What a check found in a file that can be used.

    Attributes:
        ann_file: The file that was checked.
        classes: Names in the file's order, which is that of the labels.
        num_annotations: Annotations before any was dropped.
        short_sides: The lower of each image's width and height, (N,).
        with_objects: Whether each image has any annotation, bool (N,).
        warnings: Lines that were logged.
        dropped: Positions of the annotations to leave out.
        changes: New values of fields by the annotation's position.
        categories: The list to write in place of the file's, or None.
    """

    def __init__(self, ann_file: Path, data: dict | None) -> None:
        self.ann_file = ann_file
        self.classes: tuple[str, ...] = ()
        self.num_annotations = 0
        self.short_sides = self.with_objects = np.empty(0)
        self.warnings: list[str] = []
        self.dropped: set[int] = set()
        self.changes: dict[int, dict] = {}
        self.categories: list[dict] | None = None
        self._data = data

    @property
    def num_images(self) -> int:
        """Images, those without objects included."""
        return len(self.short_sides)

    @property
    def needs_copy(self) -> bool:
        """Whether training on ``ann_file`` itself would go wrong."""
        return bool(
            self.dropped
            or self.changes
            or self.categories is not None
            or (self._data is None and _has_byte_order_mark(self.ann_file))
        )

    def usable_file(self, folder: str | os.PathLike) -> Path:
        """The checked file, or a repaired copy of it in ``folder``.

        The copy is named after the file and its parent folder, so that two
        splits do not overwrite each other; the file itself is never touched.
        """
        if not self.needs_copy:
            return self.ann_file
        path = self.ann_file.resolve()
        copy = Path(folder) / f'{path.parent.name}_{path.stem}{CHECKED_SUFFIX}'
        with CocoWriter(copy) as writer:
            for category in self.categories or ():
                writer.add('categories', json.dumps(category))
            for record in records_of(self.ann_file, self._data):
                self._copy(record, writer)
        return copy

    def _copy(self, record: Record, writer: CocoWriter) -> None:
        if record.section not in SECTIONS:
            writer.set_entry(record.section, record.text)
        elif record.section == 'images':
            writer.add('images', record.text)
        elif record.section == 'categories':
            if self.categories is None:
                writer.add('categories', record.text)
        elif record.index not in self.dropped:
            changed = self.changes.get(record.index)
            text = record.text
            if changed:
                text = json.dumps({**record.value, **changed})
            writer.add('annotations', text)
