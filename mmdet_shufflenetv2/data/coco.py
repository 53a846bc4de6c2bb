"""COCO JSON, and what other tools export by that name.

What differs in the wild and is read all the same: ids as text or floats or
from 0, no sizes, areas or ``iscrowd``, polygons without a box, Roboflow's row
for the group of all classes, a byte-order mark.
"""

import json
from collections.abc import Sequence

import numpy as np

from .table import BoxTable, DatasetError, Problems, Source, read_text, shorten

SECTIONS = ('images', 'annotations', 'categories')


def read_coco(source: Source) -> BoxTable:
    """Read a COCO file; its images are not looked for."""
    data = load_coco(source.ann)
    errors, warnings = Problems(), Problems()
    images, image_ids, lost = _images(data['images'], errors)
    numbers, classes = _categories(source.ann, data)
    sizes = [
        [_number(i.get('width')), _number(i.get('height'))] for i in images
    ]
    table = BoxTable(
        source=source,
        classes=classes,
        category_ids=np.array(numbers, np.int64),
        names=[image['file_name'] for image in images],
        files=[''] * len(images),
        image_ids=image_ids,
        sizes=np.array(sizes, np.float64).reshape(-1, 2),
        records=[source.ann] * len(images),
        errors=errors,
        warnings=warnings,
        **_annotations(
            data['annotations'], image_ids, lost, numbers, errors, warnings
        ),
    )
    return _without_group(table, data['categories'])


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
    if not isinstance(data, dict) or 'images' not in data:
        found = list(data) if isinstance(data, dict) else type(data).__name__
        raise DatasetError(
            f'{path} is not a COCO annotation file: expected an object with '
            f"'images', 'annotations' and 'categories', got {found}"
        )
    for name in SECTIONS:
        data[name] = data.get(name) or []
        rows = data[name] if isinstance(data[name], list) else [None]
        wrong = next((r for r in rows if not isinstance(r, dict)), data)
        if wrong is not data:
            raise DatasetError(
                f'{path}: expected {name!r} to be a list of objects, got '
                f'{data[name]!r:.60}'
            )
    return data


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


def _number(value: object) -> float:
    """A number, given as such or as text; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def whole_number(value: object) -> int | None:
    """A whole number, given as such, as text or as a float; else None."""
    if isinstance(value, str) and value.strip().lstrip('+-').isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = type(value) is int and -(2**63) <= value < 2**63
    return value if fits else None


def _whole_column(
    records: Sequence[dict], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """An int64 column, and which of its records have no whole number."""
    numbers = [whole_number(record.get(name)) for record in records]
    wrong = np.array([number is None for number in numbers], bool)
    return np.array([n or 0 for n in numbers], np.int64), wrong


def _images(records: list[dict], errors: Problems) -> tuple:
    """Usable records, their ids, and the ids of the others."""
    ids, no_id = _whole_column(records, 'id')
    names = [record.get('file_name') for record in records]
    no_name = np.array([not n or not isinstance(n, str) for n in names], bool)
    # The same record once more is harmless; two pictures of one id are not.
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    first = first[inverse] if len(ids) else first
    again = (np.arange(len(ids)) != first) & ~no_id
    clash = [i for i in np.flatnonzero(again) if names[i] != names[first[i]]]
    left = np.ones(len(records), bool)
    for kind, which in (
        ("image whose 'id' is not a whole number", no_id),
        ("image without a 'file_name'", no_name),
        ('image whose id another image has too', np.isin(ids, ids[clash])),
    ):
        errors.add(
            kind,
            *np.flatnonzero(which & left),
            describe=lambda i: (
                f'images[{i}] (id {records[i].get("id")!r}, {names[i]!r})'
            ),
        )
        left &= ~which
    lost = ids[~left & ~no_id]
    left &= ~again
    return [records[i] for i in np.flatnonzero(left)], ids[left], lost


def _categories(path: str, data: dict) -> tuple[list[int], tuple[str, ...]]:
    """Numbers and names, in the file's order."""
    if not data['categories'] and data['annotations']:
        raise DatasetError(f"{path} has annotations, but no 'categories'")
    found: dict[int, str] = {}
    for index, record in enumerate(data['categories']):
        number, name = whole_number(record.get('id')), record.get('name')
        name = str(name) if type(name) is int else name
        usable = number is not None and isinstance(name, str) and name
        if not usable or number in found or name in found.values():
            wrong = 'duplicate' if usable else 'expected a whole number and a'
            raise DatasetError(
                f'{path}: categories[{index}]: {wrong} id or name, got id '
                f'{record.get("id")!r}, name {name!r}'
            )
        found[number] = name
    return list(found), tuple(found.values())


def _annotations(
    records: list[dict],
    image_ids: np.ndarray,
    lost: np.ndarray,
    numbers: list[int],
    errors: Problems,
    warnings: Problems,
) -> dict[str, np.ndarray]:
    """The columns of the boxes; see :class:`BoxTable`."""
    owners, no_owner = _whole_column(records, 'image_id')
    categories, no_category = _whole_column(records, 'category_id')
    # Nothing is looked up by an annotation's id; see BoxTable.to_coco.
    ids, no_id = _whole_column(records, 'id')
    ids[no_id] = -1
    boxes, no_box = _boxes(records)
    area = np.array([_number(r.get('area')) for r in records], np.float64)
    given = [r.get('iscrowd', 0) for r in records]
    odd = np.array([value not in (0, 1) for value in given], bool)
    crowd = np.array([c == 1 for c in given], bool)
    crowd |= np.array([bool(r.get('ignore')) for r in records], bool)
    with np.errstate(invalid='ignore', over='ignore'):
        of_box = boxes[:, 2] * boxes[:, 3]

    def tell(problems: Problems, kind: str, name: str, which) -> None:
        problems.add(
            kind,
            *np.flatnonzero(which),
            describe=lambda i: (
                f'annotations[{i}] (id {records[i].get("id")!r}): {name} '
                f'{records[i].get(name)!r:.60}'
            ),
        )

    # What goes with its image was named there.
    left = ~np.isin(owners, lost) | no_owner
    not_whole = 'annotation whose {!r} is not a whole number'
    for kind, name, which in (
        (not_whole.format('image_id'), 'image_id', no_owner),
        (
            'annotation of an image that is not listed',
            'image_id',
            ~np.isin(owners, image_ids),
        ),
        (not_whole.format('category_id'), 'category_id', no_category),
        (
            'annotation of a category that is not listed (listed: '
            f'{shorten(sorted(numbers))})',
            'category_id',
            ~np.isin(categories, numbers),
        ),
        ("annotation whose 'bbox' is not 4 numbers", 'bbox', no_box),
    ):
        tell(errors, kind, name, which & left)
        left &= ~which
    # Without a positive area MMDetection leaves an object out.
    kind = 'annotation without a positive area; that of its box is taken'
    tell(warnings, kind, 'area', left & ~(area > 0) & (of_box > 0))
    kind = 'annotation whose iscrowd is not 0 or 1; taken as 0'
    tell(warnings, kind, 'iscrowd', left & odd)
    place = {number: at for at, number in enumerate(image_ids.tolist())}
    label = {number: at for at, number in enumerate(numbers)}
    return dict(
        boxes=boxes[left],
        labels=np.array([label[c] for c in categories[left].tolist()], int),
        image=np.array([place[o] for o in owners[left].tolist()], int),
        crowd=crowd[left],
        area=np.where(area > 0, area, of_box)[left],
        lines=np.flatnonzero(left),
        ids=ids[left],
    )


def _boxes(records: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """float64 (K, 4), and which of the records have no 4 numbers."""
    boxes = np.zeros((len(records), 4))
    wrong = np.zeros(len(records), bool)
    for index, record in enumerate(records):
        value = record.get('bbox')
        try:
            # NumPy reads None as NaN, and repeats a single number.
            wrong[index] = len(value) != 4 or None in value
            boxes[index] = 0 if wrong[index] else value
        except (TypeError, ValueError):
            wrong[index] = True
    return boxes, wrong


def _without_group(table: BoxTable, categories: list[dict]) -> BoxTable:
    """Leave out what Roboflow lists first: the group of all classes."""
    parents = {
        record.get('supercategory')
        for record in categories
        if record.get('supercategory') != record.get('name')
    }
    kept = [
        name
        for name, count, record in zip(
            table.classes, table.counts(), categories, strict=True
        )
        if count
        or name not in parents
        or record.get('supercategory') not in (None, '', 'none')
    ]
    return table.with_classes(kept)
