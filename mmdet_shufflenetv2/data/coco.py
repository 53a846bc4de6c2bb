"""COCO JSON, and what other tools export by that name.

What differs in the wild and is read all the same: ids as text or floats or
from 0, no sizes, areas or ``iscrowd``, polygons without a box, Roboflow's row
for the group of all classes, a byte-order mark.
"""

import json
import os
import re
from functools import lru_cache

import numpy as np

from .listing import Collector
from .table import (
    BoxTable,
    DatasetError,
    Source,
    box_around,
    read_text,
    shorten,
)


def image_names(path: str) -> list[str]:
    """The images that a file lists, before it is known where they are."""
    data = _load_once(path, _changed(path))
    names = [record.get('file_name') for record in data['images']]
    return [name for name in names if name and isinstance(name, str)]


def read_coco(source: Source) -> BoxTable:
    """Read a COCO file; without folders its images are not looked for."""
    data = _load_once(source.ann, _changed(source.ann))
    _load_once.cache_clear()
    numbers, classes = _categories(source.ann, data)
    collector = Collector(source)
    index_of_image = _add_images(collector, data['images'])
    _add_annotations(collector, data['annotations'], index_of_image, numbers)
    table = collector.table(classes, numbers)
    return _without_group(table, data['categories'])


def _changed(path: str) -> int:
    return os.stat(path).st_mtime_ns if os.path.isfile(path) else 0


@lru_cache(maxsize=1)
def _load_once(path: str, changed: int) -> dict:
    """A file as it is read, kept from the look at its images until then."""
    return load_coco(path)


def load_coco(path: str, masks: bool = False) -> dict:
    """A file's content, with masks or not; they may be most of a file."""
    try:
        data = json.loads(
            read_text(path),
            object_pairs_hook=_one_entry_each if masks else _without_masks,
        )
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f'{path} cannot be read as JSON: {error}'
        ) from error
    rows = data if isinstance(data, dict) else {}
    names = 'images', 'annotations', 'categories'
    rows = {name: rows.get(name) or [] for name in names}
    is_coco = isinstance(data, dict) and 'images' in data
    for section in rows.values():
        is_list = isinstance(section, list)
        is_coco &= is_list and all(isinstance(row, dict) for row in section)
    if not is_coco:
        raise DatasetError(
            f'{path} is not a COCO annotation file: expected {names}, each a '
            f'list of objects, got {data!r:.200}'
        )
    return {**data, **rows}


def _one_entry_each(pairs: list[tuple]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f'an object with duplicate entries: {list(record)}')
    return record


def _without_masks(pairs: list[tuple]) -> dict:
    """An object without its mask, unless its box has to come from it."""
    record = _one_entry_each(pairs)
    if record.get('bbox'):
        record.pop('segmentation', None)
    return record


def _box_of(record: dict) -> list[float]:
    """The box of an annotation, or else of its polygons."""
    box, polygons = record.get('bbox'), record.get('segmentation')
    if not box and isinstance(polygons, list):
        points = [np.reshape(part, (-1, 2)) for part in polygons if part]
        box = box_around(np.concatenate(points))
    x, y, width, height = map(float, box if isinstance(box, list) else [])
    return [x, y, width, height]


def whole_number(value: object) -> int | None:
    """A whole number, given as such, as text or as a float; else None."""
    if isinstance(value, str) and re.fullmatch(r'\s*[+-]?\d{1,19}\s*', value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = type(value) is int and -(2**63) <= value < 2**63
    return value if fits else None


def _positive(value: object) -> float:
    """A number above 0, given as such or as text; NaN for anything else."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return np.nan
    return number if 0 < number < np.inf else np.nan


def _add_images(collector: Collector, records: list[dict]) -> dict:
    """The index of each image id; None for an image that is left out."""
    source, errors = collector.source, collector.errors
    by_id: dict[int | None, dict[str, dict]] = {}
    for index, record in enumerate(records):
        number, name = whole_number(record.get('id')), record.get('file_name')
        if number is None or not name or not isinstance(name, str):
            errors.add(
                "image without a whole number as 'id' or a 'file_name'",
                f'images[{index}]: id {record.get("id")!r}, {name!r}',
            )
            by_id.setdefault(number, {})
        else:
            by_id.setdefault(number, {})[name] = record
    paths = {name: '' for by_name in by_id.values() for name in by_name}
    if source.images:
        paths = collector.listing.find_all(paths)
    index_of_image: dict[int | None, int | None] = dict.fromkeys(by_id)
    for number, by_name in by_id.items():
        # The same record once more is harmless; two pictures of one id not.
        if len(by_name) > 1:
            problem = 'id of several images, which are left out'
            errors.add(problem, f'id {number}: {shorten(by_name)}')
        if len(by_name) != 1:
            continue
        [(name, record)] = by_name.items()
        path, image = paths[name], f'image {name!r} (id {number})'
        size = [_positive(record.get(side)) for side in ('width', 'height')]
        size = size if all(side >= 1 for side in size) else None
        if path is None:
            folders = ', '.join(source.images)
            errors.add(
                f'image not found in {folders}, or one name of several for it',
                image,
            )
        elif not (path or size):
            errors.add('image without a width and height', image)
        else:
            index_of_image[number] = collector.add_image(
                name, path, source.ann, size, number
            )
    return index_of_image


def _categories(path: str, data: dict) -> tuple[list[int], tuple[str, ...]]:
    """Numbers and names, in the file's order."""
    if not data['categories'] and data['annotations']:
        raise DatasetError(f"{path} has annotations, but no 'categories'")
    classes: dict[int, str] = {}
    for index, record in enumerate(data['categories']):
        number, name = whole_number(record.get('id')), record.get('name')
        name = str(name) if type(name) is int else name
        usable = number is not None and name and isinstance(name, str)
        if not usable or number in classes or name in classes.values():
            raise DatasetError(
                f'{path}: categories[{index}]: expected a whole number as id '
                'and a name, each of them once, got id '
                f'{record.get("id")!r}, name {name!r}'
            )
        classes[number] = name
    return list(classes), tuple(classes.values())


def _add_annotations(
    collector: Collector,
    records: list[dict],
    index_of_image: dict,
    numbers: list[int],
) -> None:
    """Add each box; index None is an image that was reported before."""
    labels = {number: label for label, number in enumerate(numbers)}
    errors = collector.errors

    def describe(name: str) -> str:
        number, value = record.get('id'), record.get(name)
        return f'annotations[{line}] (id {number!r}): {name} {value!r:.60}'

    for line, record in enumerate(records):
        owner = whole_number(record.get('image_id'))
        category = whole_number(record.get('category_id'))
        if owner is None or owner not in index_of_image:
            problem = 'annotation of an image that is not listed'
            errors.add(problem, describe('image_id'))
            continue
        if index_of_image[owner] is None:
            continue
        if category not in labels:
            known = f'(listed: {shorten(sorted(numbers))})'
            problem = f'annotation of a category that is not listed {known}'
            errors.add(problem, describe('category_id'))
            continue
        try:
            box = _box_of(record)
        except (OverflowError, TypeError, ValueError):
            problem = "annotation whose 'bbox' is not 4 numbers"
            errors.add(problem, describe('bbox'))
            continue
        collector.add_box(
            index_of_image[owner],
            line,
            labels[category],
            box,
            record.get('iscrowd') == 1 or bool(record.get('ignore')),
            _positive(record.get('area')),
            whole_number(record.get('id')),
        )


def _without_group(table: BoxTable, categories: list[dict]) -> BoxTable:
    """Leave out what Roboflow lists first: the group of all classes."""
    named = [record.get('supercategory') for record in categories]
    groups = [name if isinstance(name, str) else None for name in named]
    pairs = list(zip(table.classes, groups, strict=True))
    parents = {group for name, group in pairs if group != name}
    kept = [
        name
        for (name, group), count in zip(pairs, table.counts(), strict=True)
        if count or name not in parents or group not in (None, '', 'none')
    ]
    return table.with_classes(kept)
