"""COCO JSON, and what other tools export by that name.

What differs in the wild and is read all the same: ids as text or floats or
from 0, no sizes, areas or ``iscrowd``, polygons without a box, Roboflow's row
for the group of all classes, a byte-order mark.
"""

import json
import os

import numpy as np

from .listing import Collector
from .table import BoxTable, DatasetError, Source, read_text, shorten

#: The file that was last asked for its images' names and is not read yet.
_loaded: dict[tuple | None, dict] = {}


def _state(path: str) -> tuple | None:
    there = os.path.isfile(path)
    return (path, os.stat(path).st_mtime_ns) if there else None


def image_names(path: str) -> list[str]:
    """The images that a file lists, before it is known where they are."""
    data = load_coco(path)
    _loaded.clear()
    _loaded[_state(path)] = data
    names = [record.get('file_name') for record in data['images']]
    return [name for name in names if name and isinstance(name, str)]


def read_coco(source: Source) -> BoxTable:
    """Read a COCO file; without folders its images are not looked for."""
    data = _loaded.pop(_state(source.ann), None) or load_coco(source.ann)
    numbers, classes = _categories(source.ann, data)
    found = Collector(source)
    place = _add_images(found, data['images'])
    _add_annotations(found, data['annotations'], place, numbers)
    return _without_group(found.table(classes, numbers), data['categories'])


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
    """An object without its mask, out of which a missing box is told."""
    record = _one_entry_each(pairs)
    mask = record.pop('segmentation', None)
    if mask and isinstance(mask, list) and not record.get('bbox'):
        points = [np.reshape(part, (-1, 2)) for part in mask if part]
        points = np.concatenate(points)
        low, high = points.min(0), points.max(0)
        record['bbox'] = [*low.tolist(), *(high - low).tolist()]
    return record


def whole_number(value: object) -> int | None:
    """A whole number, given as such, as text or as a float; else None."""
    if isinstance(value, str) and value.strip().lstrip('+-').isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = type(value) is int and -(2**63) <= value < 2**63
    return value if fits else None


def _positive(value: object) -> float:
    """A number above 0, given as such or as text; NaN for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return np.nan
    return number if number > 0 else np.nan


def _add_images(found: Collector, records: list[dict]) -> dict:
    """The index of each image id; None for an image that is left out."""
    source, errors = found.source, found.errors
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
    paths = {name: '' for named in by_id.values() for name in named}
    if source.images:
        paths = found.listing.find_all(paths)
    place: dict[int | None, int | None] = dict.fromkeys(by_id)
    for number, named in by_id.items():
        # The same record once more is harmless; two pictures of one id not.
        if len(named) > 1:
            kind = 'id of several images, which are left out'
            errors.add(kind, f'id {number}: {shorten(named)}')
        if len(named) != 1:
            continue
        [(name, record)] = named.items()
        path, told = paths[name], f'image {name!r} (id {number})'
        size = [_positive(record.get(each)) for each in ('width', 'height')]
        size = size if min(size) >= 1 else None
        if path is None:
            where = ', '.join(source.images)
            kind = f'image not found in {where}, or one name of several for it'
            errors.add(kind, told)
        elif not (path or size):
            errors.add('image without a width and height', told)
        else:
            place[number] = found.add_image(
                name, path, source.ann, size, number
            )
    return place


def _categories(path: str, data: dict) -> tuple[list[int], tuple[str, ...]]:
    """Numbers and names, in the file's order."""
    if not data['categories'] and data['annotations']:
        raise DatasetError(f"{path} has annotations, but no 'categories'")
    found: dict[int, str] = {}
    for index, record in enumerate(data['categories']):
        number, name = whole_number(record.get('id')), record.get('name')
        name = str(name) if type(name) is int else name
        usable = number is not None and name and isinstance(name, str)
        if not usable or number in found or name in found.values():
            raise DatasetError(
                f'{path}: categories[{index}]: expected a whole number as id '
                'and a name, each of them once, got id '
                f'{record.get("id")!r}, name {name!r}'
            )
        found[number] = name
    return list(found), tuple(found.values())


def _add_annotations(
    found: Collector, records: list[dict], place: dict, numbers: list[int]
) -> None:
    """Add each box; None in ``place`` is an image that was named before."""
    labels = {number: label for label, number in enumerate(numbers)}
    errors = found.errors

    def tell(name: str) -> str:
        number, value = record.get('id'), record.get(name)
        return f'annotations[{line}] (id {number!r}): {name} {value!r:.60}'

    for line, record in enumerate(records):
        owner = whole_number(record.get('image_id'))
        category = whole_number(record.get('category_id'))
        if owner is None or owner not in place:
            kind = 'annotation of an image that is not listed'
            errors.add(kind, tell('image_id'))
            continue
        if place[owner] is None:
            continue
        if category not in labels:
            known = shorten(sorted(numbers))
            kind = 'annotation of a category that is not listed (listed: '
            errors.add(f'{kind}{known})', tell('category_id'))
            continue
        try:
            box = record.get('bbox')
            box = box if isinstance(box, list) else []
            x, y, width, height = map(float, box)
        except (TypeError, ValueError):
            kind = "annotation whose 'bbox' is not 4 numbers"
            errors.add(kind, tell('bbox'))
            continue
        found.add_box(
            place[owner],
            line,
            labels[category],
            (x, y, width, height),
            record.get('iscrowd') == 1 or bool(record.get('ignore')),
            _positive(record.get('area')),
            whole_number(record.get('id')),
        )


def _without_group(table: BoxTable, categories: list[dict]) -> BoxTable:
    """Leave out what Roboflow lists first: the group of all classes."""
    groups = [record.get('supercategory') for record in categories]
    pairs = list(zip(table.classes, groups, strict=True))
    parents = {group for name, group in pairs if group != name}
    kept = [
        name
        for (name, group), count in zip(pairs, table.counts(), strict=True)
        if count or name not in parents or group not in (None, '', 'none')
    ]
    return table.with_classes(kept)
