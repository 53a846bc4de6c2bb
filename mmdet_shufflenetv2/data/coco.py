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
_HUGE = 2**63


def read_coco(source: Source) -> BoxTable:
    """Read a COCO file; its images are not looked for.

    Raises:
        DatasetError: It is not a COCO file, or its categories are wrong.
    """
    data = load_coco(source.ann)
    problems, warnings = Problems(), Problems()
    images, names, image_ids, lost = _images(data['images'], problems)
    numbers, classes = _categories(source.ann, data)
    sizes = [
        [_number(image.get('width')), _number(image.get('height'))]
        for image in images
    ]
    table = BoxTable(
        source=source,
        classes=tuple(classes),
        category_ids=np.array(numbers, np.int64),
        names=names,
        files=[''] * len(names),
        image_ids=image_ids,
        sizes=np.array(sizes, np.float64).reshape(-1, 2),
        records=[source.ann] * len(names),
        errors=problems,
        warnings=warnings,
        **_annotations(
            data['annotations'], image_ids, lost, numbers, problems, warnings
        ),
    )
    return _without_group(table, data['categories'])


def load_coco(path: str, masks: bool = False) -> dict:
    """A file's content; its three sections are lists of objects.

    Args:
        path: The file.
        masks: Keep them; they may be most of a file.

    Raises:
        DatasetError: It is not a COCO file.
    """
    text = read_text(path)
    if not text.strip():
        raise DatasetError(f'{path} is empty')
    try:
        hook = _one_entry_each if masks else _without_masks
        data = json.loads(text, object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path} is not readable JSON: {error}') from error
    if not isinstance(data, dict) or 'images' not in data:
        found = (
            f'an object with {shorten(data)}'
            if isinstance(data, dict)
            else f'a {type(data).__name__}'
        )
        raise DatasetError(
            f'{path} is not a COCO annotation file: expected an object with '
            f"'images', 'annotations' and 'categories', got {found}"
        )
    for name in SECTIONS:
        data[name] = data.get(name) or []
        if not isinstance(data[name], list):
            raise DatasetError(
                f'{path}: expected {name!r} to be a list, got a '
                f'{type(data[name]).__name__}'
            )
        for index, record in enumerate(data[name]):
            if not isinstance(record, dict):
                raise DatasetError(
                    f'{path}: expected {name}[{index}] to be an object, got '
                    f'{record!r:.60}'
                )
    return data


def _one_entry_each(pairs: list[tuple]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'an object has two entries named {twice!r}')
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
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().lstrip('+-').isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and -_HUGE <= value < _HUGE:
        return value
    return None


def _whole_column(
    records: Sequence[dict], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """An int64 column, and which of its records have no whole number."""
    values = [record.get(name) for record in records]
    if all(type(value) is int and abs(value) < _HUGE for value in values):
        return np.array(values, np.int64), np.zeros(len(values), bool)
    numbers = [whole_number(value) for value in values]
    wrong = np.array([number is None for number in numbers], bool)
    column = [0 if number is None else number for number in numbers]
    return np.array(column, np.int64), wrong


def _images(records: list[dict], problems: Problems) -> tuple:
    """Usable records, their names and ids, and the ids of the others."""
    ids, wrong = _whole_column(records, 'id')
    lost: set[int] = set()

    def where(index: int) -> str:
        record = records[index]
        return (
            f'images[{index}] (id {record.get("id")!r}, '
            f'{record.get("file_name")!r})'
        )

    def lose(kind: str, which: np.ndarray) -> None:
        which = np.flatnonzero(which & ~wrong)
        problems.add_all(kind, len(which), lambda at: where(which[at]))
        lost.update(ids[which].tolist())
        wrong[which] = True

    bad_ids = wrong.copy()
    wrong[:] = False
    lose("image whose 'id' is not a whole number", bad_ids)
    lost.clear()
    names = [record.get('file_name') for record in records]
    lose(
        "image without a 'file_name'",
        np.array([not isinstance(n, str) or not n for n in names], bool),
    )
    # The same record once more is harmless; two pictures of one id are not.
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    again = (np.arange(len(ids)) != first[inverse]) & ~wrong
    clashing = {
        int(ids[index])
        for index in np.flatnonzero(again)
        if names[index] != names[first[inverse[index]]]
    }
    lose('image whose id another image has too', np.isin(ids, list(clashing)))
    keep = np.flatnonzero(~wrong & ~again)
    return (
        [records[index] for index in keep],
        [names[index] for index in keep],
        ids[keep],
        lost,
    )


def _categories(path: str, data: dict) -> tuple[list[int], list[str]]:
    """Numbers and names, in the file's order.

    Raises:
        DatasetError: One has neither, or shares it with another one.
    """
    if not data['categories'] and data['annotations']:
        raise DatasetError(f"{path} has annotations, but no 'categories'")
    numbers: list[int] = []
    names: list[str] = []
    for index, record in enumerate(data['categories']):
        number, name = whole_number(record.get('id')), record.get('name')
        name = str(name) if type(name) is int else name
        wrong = None
        if number is None:
            wrong = "expected a whole number as 'id'"
        elif not isinstance(name, str) or not name:
            wrong = "expected a 'name'"
        elif number in numbers:
            wrong = f'duplicate id {number}'
        elif name in names:
            wrong = f'duplicate name {name!r}'
        if wrong:
            raise DatasetError(
                f'{path}: categories[{index}]: {wrong}, got id '
                f'{record.get("id")!r}, name {record.get("name")!r}'
            )
        numbers.append(number)
        names.append(name)
    return numbers, names


def _annotations(
    records: list[dict],
    image_ids: np.ndarray,
    lost: set[int],
    numbers: list[int],
    problems: Problems,
    warnings: Problems,
) -> dict[str, np.ndarray]:
    """The columns of the boxes; see :class:`BoxTable`."""
    owners, no_owner = _whole_column(records, 'image_id')
    categories, no_category = _whole_column(records, 'category_id')
    ids, no_id = _whole_column(records, 'id')
    # Nothing is looked up by an annotation's id; see BoxTable.to_coco.
    ids[no_id] = -1
    boxes, no_box = _box_column(records)
    left = np.ones(len(records), bool)

    def lose(kind: str, which: np.ndarray, name: str) -> None:
        at = np.flatnonzero(which & left)
        problems.add_all(
            kind,
            len(at),
            lambda i: (
                f'annotations[{at[i]}] (id {records[at[i]].get("id")!r}): '
                f'{name} {records[at[i]].get(name)!r:.60}'
            ),
        )
        left[at] = False

    lose(
        "annotation whose 'image_id' is not a whole number",
        no_owner,
        'image_id',
    )
    # What goes with its image was named there.
    left &= ~np.isin(owners, list(lost))
    lose(
        'annotation of an image that is not listed',
        ~np.isin(owners, image_ids),
        'image_id',
    )
    lose(
        "annotation whose 'category_id' is not a whole number",
        no_category,
        'category_id',
    )
    lose(
        'annotation of a category that is not listed (listed: '
        f'{shorten(sorted(numbers))})',
        ~np.isin(categories, numbers),
        'category_id',
    )
    lose("annotation whose 'bbox' is not 4 numbers", no_box, 'bbox')
    area = np.array([_number(r.get('area')) for r in records], np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        of_box = boxes[:, 2] * boxes[:, 3]
        # Without a positive area MMDetection leaves an object out.
        no_area = left & ~(area > 0) & (of_box > 0)
    given = [r.get('iscrowd', 0) for r in records]
    odd = left & np.array([value not in (0, 1) for value in given], bool)
    for kind, which, name in (
        (
            'annotation without a positive area; that of its box is taken',
            no_area,
            'area',
        ),
        ('annotation whose iscrowd is not 0 or 1; taken as 0', odd, 'iscrowd'),
    ):
        at = np.flatnonzero(which)
        warnings.add_all(
            kind,
            len(at),
            lambda i, at=at, name=name: (
                f'annotations[{at[i]}] (id {records[at[i]].get("id")!r}): '
                f'{name} {records[at[i]].get(name)!r:.60}'
            ),
        )
    crowd = np.array([value == 1 for value in given], bool)
    crowd |= np.array([bool(r.get('ignore')) for r in records], bool)
    lines = np.flatnonzero(left)
    return dict(
        boxes=boxes[lines],
        labels=_positions(np.array(numbers, np.int64), categories[lines]),
        image=_positions(image_ids, owners[lines]),
        crowd=crowd[lines],
        area=np.where(area > 0, area, of_box)[lines],
        lines=lines,
        ids=ids[lines],
    )


def _box_column(records: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """float64 (K, 4), and which of the records have no 4 numbers."""
    values = [record.get('bbox') for record in records]
    wrong = np.zeros(len(values), bool)
    boxes = np.zeros((len(values), 4))
    for index, value in enumerate(values):
        # NumPy reads None as NaN.
        usable = isinstance(value, list) and len(value) == 4
        wrong[index] = not usable or None in value
        if not wrong[index]:
            try:
                boxes[index] = value
            except (TypeError, ValueError):
                wrong[index] = True
    return boxes, wrong


def _positions(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of the wanted keys is; all of them are there."""
    order = np.argsort(keys, kind='stable')
    if not len(wanted):
        return np.zeros(0, np.int64)
    return order[np.searchsorted(keys[order], wanted)].astype(np.int64)


def _without_group(table: BoxTable, categories: list[dict]) -> BoxTable:
    """Leave out what Roboflow lists first: the group of all classes."""
    parents = {
        record.get('supercategory')
        for record in categories
        if record.get('supercategory') != record.get('name')
    }
    used = table.counts()
    kept = [
        name
        for label, name in enumerate(table.classes)
        if used[label]
        or name not in parents
        or categories[label].get('supercategory') not in (None, '', 'none')
    ]
    return (
        table
        if len(kept) == len(table.classes)
        else (table.with_classes(kept))
    )
