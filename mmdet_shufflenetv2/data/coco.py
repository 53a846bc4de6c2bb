"""COCO JSON, and the variants that other tools export.

Supported variants: ids that are strings or floats or start at 0; no sizes,
areas or ``iscrowd``; polygons without a box; Roboflow's category for the group
of all classes; a byte-order mark.
"""

import json
import re
from collections import Counter
from itertools import compress

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


def load_coco(path: str, masks: bool = False) -> dict:
    """Load a COCO file; without masks, which may be most of its content."""
    try:
        hook = None if masks else _without_mask
        data = json.loads(read_text(path), object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path} cannot be read as JSON: {error}') from None
    names = 'images', 'annotations', 'categories'
    is_coco = isinstance(data, dict) and 'images' in data
    rows = {name: data.get(name) or [] for name in names} if is_coco else {}
    if not is_coco or not all(
        isinstance(section, list) and all(isinstance(r, dict) for r in section)
        for section in rows.values()
    ):
        raise DatasetError(
            f'{path} is not a COCO annotation file: expected {names}, each a '
            f'list of objects, got {data!r:.200}'
        )
    return {**data, **rows}


def _without_mask(record: dict) -> dict:
    """Drop the mask of an object unless it is needed to compute the box."""
    if record.get('bbox'):
        record.pop('segmentation', None)
    return record


def read_coco(source: Source) -> BoxTable:
    """Read a COCO file; images are looked up if the source has folders."""
    data, found = load_coco(source.ann), Collector(source)
    classes = _classes(source.ann, data)
    images = _add_images(found, data['images'])
    labels = {number: label for label, number in enumerate(classes)}
    unlisted = f'that is not listed (listed: {shorten(sorted(labels))})'
    for line, record in enumerate(data['annotations']):
        owner = _key(record.get('image_id'))
        category = parse_id(record.get('category_id'))
        if owner not in images:
            key, kind = 'image_id', 'annotation of an image that is not listed'
        elif images[owner] is None:  # already reported
            continue
        elif category not in labels:
            key, kind = 'category_id', f'annotation of a category {unlisted}'
        elif (box := _box_of(record)) is None:
            key, kind = 'bbox', "annotation whose 'bbox' is not 4 numbers"
        else:
            found.add_box(
                images[owner],
                line,
                labels[category],
                box,
                record.get('iscrowd') == 1 or bool(record.get('ignore')),
                _positive(record.get('area')),
                parse_id(record.get('id')),
            )
            continue
        where = f'annotations[{line}] (id {record.get("id")!r})'
        found.errors.add(kind, f'{where}: {key} {record.get(key)!r:.60}')
    table = found.table(classes.values(), list(classes))
    return _without_group(table, data['categories'])


def _classes(path: str, data: dict) -> dict[int, str]:
    """Return the class names by category id, in the file's order."""
    if not data['categories'] and data['annotations']:
        raise DatasetError(f"{path} has annotations, but no 'categories'")
    classes: dict[int, str] = {}
    for index, record in enumerate(data['categories']):
        number, name = parse_id(record.get('id')), record.get('name')
        name = str(name) if type(name) is int else name
        usable = number is not None and name and isinstance(name, str)
        if not usable or number in classes:
            raise DatasetError(
                f'{path}: categories[{index}]: expected a unique whole number '
                f'as id and a name, got id {record.get("id")!r}, name {name!r}'
            )
        classes[number] = name
    return classes


def _add_images(found: Collector, records: list[dict]) -> dict:
    """Add the images; return the index of each id, None if left out."""
    images: dict[int | str, int | None] = {}
    by_id: dict[int, dict[str, dict]] = {}
    for index, record in enumerate(records):
        number, name = parse_id(record.get('id')), record.get('file_name')
        images[_key(record.get('id'))] = None
        if number is None or not name or not isinstance(name, str):
            found.errors.add(
                "image without an integer 'id' or without a 'file_name'",
                f'images[{index}]: id {record.get("id")!r}, {name!r}',
            )
        else:
            by_id.setdefault(number, {})[name] = record
    paths = {name: '' for by_name in by_id.values() for name in by_name}
    if found.source.images:
        paths = found.listing.find_all(paths, found.source.ann)
    for number, by_name in by_id.items():
        # Duplicate records are harmless; different images of one id are not.
        if len(by_name) > 1:
            kind = 'duplicate image id; its images are left out'
            found.errors.add(kind, f'id {number}: {shorten(by_name)}')
            continue
        [(name, record)] = by_name.items()
        size = [_positive(record.get(side)) for side in ('width', 'height')]
        size = size if all(side >= 1 for side in size) else None
        where = f'image {name!r} (id {number})'
        if paths[name] is None:
            found.no_image(where)
        elif not (paths[name] or size):
            found.errors.add('image without a width and height', where)
        else:
            path, ann = paths[name], found.source.ann
            images[number] = found.add_image(name, path, ann, size, number)
    return images


def _without_group(table: BoxTable, categories: list[dict]) -> BoxTable:
    """Leave out the category with which Roboflow groups all classes, and merge
    categories of equal names, as the group of a single class has its name.
    """
    groups = [record.get('supercategory') for record in categories]
    groups = [each if isinstance(each, str) else None for each in groups]
    pairs = list(zip(table.classes, groups, strict=True))
    parents = {group for name, group in pairs if group != name}
    counts = table.counts()
    kept = [
        name
        for (name, group), count in zip(pairs, counts, strict=True)
        if count or name not in parents or group not in (None, '', 'none')
    ]
    used = Counter(compress(table.classes, counts))
    kind = 'class listed under several ids, which are merged'
    table.warnings.add(kind, *(name for name in used if used[name] > 1))
    return table.with_classes(list(dict.fromkeys(kept)))


def _box_of(record: dict) -> list[float] | None:
    """Return the box of an annotation or around its polygons, or None."""
    box, polygons = record.get('bbox'), record.get('segmentation')
    try:
        if not box and isinstance(polygons, list):
            points = [np.reshape(part, (-1, 2)) for part in polygons if part]
            box = box_around(np.concatenate(points))
        x, y, width, height = map(float, box if isinstance(box, list) else [])
    except (OverflowError, TypeError, ValueError):
        return None
    return [x, y, width, height]


def parse_id(value: object) -> int | None:
    """Convert an int, or a whole number given as str or float; else None."""
    if isinstance(value, str) and re.fullmatch(r'\s*[+-]?\d{1,19}\s*', value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = type(value) is int and -(2**63) <= value < 2**63
    return value if fits else None


def _key(value: object) -> int | str:
    """Return an id's number or, for comparison with others, its text."""
    number = parse_id(value)
    return repr(value) if number is None else number


def _positive(value: object) -> float:
    """Convert a positive finite number or numeric string; else NaN."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return np.nan
    return number if 0 < number < np.inf else np.nan
