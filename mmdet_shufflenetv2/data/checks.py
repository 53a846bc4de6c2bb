"""Checking a COCO annotation file before a run reads it.

The file is read record by record, 860 000 annotations in some ten seconds and
a few hundred MB. Errors stop the run; warnings are logged; a field that can be
told from the rest (``area``, ``iscrowd``) is repaired in a copy. An image
without objects is legal.
"""

import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from .box_rules import ERRORS, WARNINGS, classify_boxes, clip_box
from .check_report import (
    CheckReport,
    Problems,
    explain,
    records_of,
    reorder_categories,
    shorten,
)
from .coco_stream import DatasetError, Record
from .image_folder import ImageFolder, escapes

__all__ = ['CheckReport', 'DatasetError', 'check_coco_file']


class _Checker:
    """One pass over the records, then rules over columns of numbers."""

    def __init__(self, ann_file: Path, images: ImageFolder | None) -> None:
        self.ann_file, self.images = ann_file, images
        self.errors, self.warnings = Problems(), Problems()
        self._adders = {
            'images': self._add_image,
            'annotations': self._add_annotation,
            'categories': self._add_category,
        }
        self.categories: dict[int, str] = {}
        self.image_ids, self.image_sizes = array('q'), array('d')
        self.image_names: list[str] = []
        # Positions in the file, as broken records have no row here.
        self.rows, self.keys, self.boxes = array('q'), array('q'), array('d')
        self.changes: dict[int, dict] = {}
        self.dropped: set[int] = set()

    def add(self, record: Record) -> None:
        if record.section not in self._adders:
            return
        if not isinstance(record.value, dict):
            self.errors.add(
                'record that is no JSON object',
                f'{record.section}[{record.index}]: {record.value!r:.60}',
            )
            return
        self._adders[record.section](record.index, record.value)

    def _add_category(self, index: int, value: dict) -> None:
        number, name = value.get('id'), value.get('name')
        where = f'categories[{index}]: id {number!r}, name {name!r}'
        if type(number) is not int or not isinstance(name, str) or not name:
            self.errors.add(
                'category without a whole-number id or a name', where
            )
        elif number in self.categories:
            self.errors.add('category id that is there twice', where)
        elif name in self.categories.values():
            self.errors.add('category name that is there twice', where)
        else:
            self.categories[number] = name

    def _add_image(self, index: int, value: dict) -> None:
        name = value.get('file_name')
        where = f'images[{index}] (id {value.get("id")!r}, {name!r})'
        try:
            size = array('d', (value['width'], value['height']))
            self.image_ids.append(value['id'])
        except (KeyError, TypeError, OverflowError) as error:
            self.errors.add(
                'image without a whole-number id, width and height',
                f'{where}: {explain(error)}',
            )
            return
        self.image_sizes.extend(size)
        self.image_names.append(str(name))
        if not (size[0] >= 1 and size[1] >= 1):
            self.errors.add(
                'image whose width or height is below 1',
                f'{where}: {size[0]:g} x {size[1]:g}',
            )
        if not isinstance(name, str) or not name:
            self.errors.add('image without a file_name', where)
        elif escapes(name):
            self.errors.add(
                'file_name that leaves the image folder (allowed: relative '
                "names without '..')",
                where,
            )
        elif self.images is not None and not self.images.has(name):
            self.errors.add(
                f'image that is not in {self.images.root}',
                where + self.images.hint(name),
            )

    def _add_annotation(self, index: int, value: dict) -> None:
        try:
            keys = array(
                'q', (value['id'], value['image_id'], value['category_id'])
            )
            x, y, width, height = value['bbox']
            box = array('d', (x, y, width, height))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self.errors.add(
                'annotation without whole-number id, image_id, category_id '
                'or a bbox of 4 numbers',
                f'annotations[{index}] (id {value.get("id")!r}): '
                f'{explain(error)}',
            )
            return
        self.rows.append(index)
        self.keys.extend(keys)
        self.boxes.extend(box)
        area = value.get('area')
        if not isinstance(area, int | float) or not area > 0:
            # Without a positive area MMDetection leaves the object out.
            self.changes[index] = {'area': width * height}
            if width * height > 0:
                self.warnings.add(
                    'annotation without a positive area; set to that of its '
                    'box',
                    f'annotations[{index}] (id {keys[0]}): area {area!r}',
                )
        if value.get('iscrowd') not in (0, 1):
            self.changes.setdefault(index, {})['iscrowd'] = 0
            self.warnings.add(
                'annotation without iscrowd 0 or 1; set to 0',
                f'annotations[{index}] (id {keys[0]}): iscrowd '
                f'{value.get("iscrowd")!r}',
            )

    def finish(self, on_bad_boxes: str) -> None:
        """Apply the rules that need the whole file."""
        if not self.categories and not self.errors:
            self.errors.add('file without categories', str(self.ann_file))
        if not self.image_ids and not self.errors:
            self.errors.add('file without images', str(self.ann_file))
        if not self.rows and not self.errors:
            self.errors.add(
                'file without annotations (single images may have none)',
                str(self.ann_file),
            )
        ids = np.array(self.image_ids, np.int64)
        self._repeated(ids, 'images', np.arange(len(ids)))
        names = np.array(self.image_names)
        for index in _repeats(names):
            self.warnings.add(
                'file_name that is listed twice',
                f'images[{index}]: {names[index]}',
            )
        keys = np.array(self.keys, np.int64).reshape(-1, 3)
        rows = np.array(self.rows, np.int64)
        self._repeated(keys[:, 0], 'annotations', rows)
        unknown = ~np.isin(keys[:, 2], list(self.categories))
        for at in np.flatnonzero(unknown):
            self.errors.add(
                'annotation of a category that is not listed (listed: '
                f'{shorten(sorted(self.categories))})',
                f'annotations[{rows[at]}] (id {keys[at, 0]}): category_id '
                f'{keys[at, 2]}',
            )
        stray = ~np.isin(keys[:, 1], ids)
        for at in np.flatnonzero(stray):
            self.errors.add(
                'annotation of an image that is not listed',
                f'annotations[{rows[at]}] (id {keys[at, 0]}): image_id '
                f'{keys[at, 1]}',
            )
        self._check_boxes(ids, keys, rows, ~stray, on_bad_boxes)
        if len(rows) and len(self.dropped) == len(rows):
            self.errors.add('file whose boxes are all bad', str(self.ann_file))

    def fill(self, report: CheckReport) -> None:
        report.classes = tuple(self.categories.values())
        report.short_sides = np.reshape(self.image_sizes, (-1, 2)).min(axis=1)
        report.num_annotations = len(self.rows)
        report.with_objects = np.isin(self.image_ids, self.keys[1::3])
        report.dropped, report.changes = self.dropped, self.changes
        report.warnings = self.warnings.lines()

    def _repeated(self, ids, section: str, rows) -> None:
        for at in _repeats(ids):
            self.errors.add(
                f'id that is there twice in {section}',
                f'{section}[{rows[at]}]: id {ids[at]}',
            )

    def _check_boxes(self, ids, keys, rows, listed, on_bad_boxes) -> None:
        if not len(ids):
            return
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)[listed]
        keys, rows = keys[listed], rows[listed]
        order = np.argsort(ids, kind='stable')
        image = order[np.searchsorted(ids[order], keys[:, 1])]
        sizes = np.array(self.image_sizes).reshape(-1, 2)[image]
        found = classify_boxes(boxes, sizes, keys[:, 0], keys[:, 1])

        def describe(at: int) -> str:
            width, height = sizes[at]
            return (
                f'annotations[{rows[at]}] (id {keys[at, 0]}, image '
                f'{keys[at, 1]} {self.image_names[image[at]]!r}, '
                f'{width:g} x {height:g}): bbox {boxes[at].tolist()}'
            )

        for rule, (what, remedy) in ERRORS.items():
            drop = on_bad_boxes == 'drop'
            done = {'drop': 'left out', 'clip': 'clipped'}[remedy]
            offer = f'{what} ({done} with --on-bad-boxes drop)'
            target = self.warnings if drop else self.errors
            for at in found[rule]:
                target.add(f'{what}; {done}' if drop else offer, describe(at))
                if not drop:
                    continue
                if remedy == 'drop':
                    self.dropped.add(int(rows[at]))
                else:
                    box = clip_box(boxes[at], sizes[at])
                    change = self.changes.setdefault(int(rows[at]), {})
                    change.update(bbox=box, area=box[2] * box[3])
        for rule, what in WARNINGS.items():
            for at in found[rule]:
                self.warnings.add(what, describe(at))
                if rule == 'coco_flat':
                    self.changes.pop(int(rows[at]), None)


def _repeats(values: np.ndarray) -> np.ndarray:
    """Positions of the values that came before."""
    _, first = np.unique(values, return_index=True)
    again = np.ones(len(values), bool)
    again[first] = False
    return np.flatnonzero(again)


def check_coco_file(
    ann_file: str | os.PathLike,
    img_dir: str | os.PathLike | None = None,
    on_bad_boxes: str = 'error',
    classes: Sequence[str] | None = None,
    data: dict | None = None,
    progress: Callable[[int], Any] | None = None,
) -> CheckReport:
    """Check an annotation file; log warnings, raise on errors.

    Args:
        ann_file: The file; its name is in every message.
        img_dir: Folder that the images' ``file_name`` are relative to; None
            leaves out whether they are there.
        on_bad_boxes: 'error' stops at a box that is NaN, empty, negative or
            not inside its image; 'drop' leaves such annotations out, clips
            those that are partly inside, and says so.
        classes: Class names in the order of the model's labels. MMDetection
            numbers labels by the order of a file's categories, so a file
            that has them in another order or lacks some is repaired in the
            copy. Categories besides these are left alone.
        data: The content of the file where it has been loaded already.
        progress: Called with the number of characters read since last time.

    Returns:
        The report; run on ``report.usable_file(folder)``.

    Raises:
        DatasetError: All errors of the file, a few records of each kind.
        ValueError: ``on_bad_boxes`` is neither 'error' nor 'drop'.
    """
    if on_bad_boxes not in ('error', 'drop'):
        raise ValueError(
            f"on_bad_boxes must be 'error' or 'drop', but got {on_bad_boxes!r}"
        )
    ann_file = Path(ann_file)
    images = None if img_dir is None else ImageFolder(img_dir)
    checker = _Checker(ann_file, images)
    for record in records_of(ann_file, data, progress):
        checker.add(record)
    checker.finish(on_bad_boxes)
    if checker.errors:
        raise DatasetError(f'{ann_file} cannot be used:{checker.errors}')
    report = CheckReport(ann_file, data)
    checker.fill(report)
    report.categories = reorder_categories(checker.categories, classes)
    if checker.warnings:
        print_log(f'{ann_file}:{checker.warnings}', 'current', level=30)
    return report
