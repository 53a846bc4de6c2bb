"""Boxes in a CSV file, one per line, in the columns that exports have.

Known are TensorFlow's and Roboflow's (filename, width, height, class, xmin,
ymin, xmax, ymax), makesense's, RetinaNet's without a header (path, x1, y1, x2,
y2, class), Kaggle's ``bbox`` column and Open Images' shares of the image.
"""

import csv
import io
import json
import re

from .listing import Collector
from .table import BoxTable, DatasetError, Source, read_text

_COLUMNS = {
    'file': 'filename file_name image image_name image_path imageid image_id '
    'path img file',
    'label': 'class label label_name labelname class_name category name',
    'x1': 'xmin x_min x1 left bbox_xmin',
    'y1': 'ymin y_min y1 top bbox_ymin',
    'x2': 'xmax x_max x2 right bbox_xmax',
    'y2': 'ymax y_max y2 bottom bbox_ymax',
    'x': 'x bbox_x',
    'y': 'y bbox_y',
    'w': 'w bbox_width box_width bbox_w',
    'h': 'h bbox_height box_height bbox_h',
    'box': 'bbox',
    'width': 'width image_width img_width',
    'height': 'height image_height img_height',
}
_ROLES = {word: role for role in _COLUMNS for word in _COLUMNS[role].split()}
_CORNERS, _SIZED = ('x1', 'y1', 'x2', 'y2'), ('x', 'y', 'w', 'h')
_HEADERLESS = (
    ('file', *_CORNERS, 'label'),
    ('label', *_SIZED, 'file', 'width', 'height'),
)


def columns_of(first: list[str]) -> tuple[list[str], bool] | None:
    """What the columns are by the first line, and whether it names them; None
    if it is not that of boxes.
    """
    words = [word.strip().lower() for word in first]
    roles = [_ROLES.get(word, '') for word in words]
    if 'w' not in roles and {'x', 'y', 'width', 'height'} <= set(roles):
        # With a corner, and without another size, they are the box's.
        roles = [dict(width='w', height='h').get(r, r) for r in roles]
    boxes = ['box'], _CORNERS, _SIZED
    if 'file' in roles and any(set(roles) >= set(box) for box in boxes):
        return roles, True
    for roles in _HEADERLESS:
        numbers = [
            re.fullmatch(r'-?[\d.]+', word)
            for role, word in zip(roles, words, strict=False)
            if role not in ('file', 'label')
        ]
        if len(words) == len(roles) and all(numbers):
            return list(roles), False
    return None


def looks_like_boxes(path: str) -> bool:
    """Whether a CSV file's first line is that of boxes."""
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            first = next(csv.reader([file.readline()]), [])
            return columns_of(first) is not None
    except (OSError, UnicodeDecodeError):
        return False


def read_csv(source: Source) -> BoxTable:
    """Read a CSV file of boxes; an image without any has one empty line."""
    lines = list(csv.reader(io.StringIO(read_text(source.ann))))
    columns = columns_of(lines[0]) if lines else None
    if columns is None:
        raise DatasetError(
            f'{source.ann}: expected columns such as filename, class, xmin, '
            f'ymin, xmax, ymax, got {", ".join(lines[0]) if lines else ""}'
        )
    roles, has_header = columns
    rows = [
        (line, dict(zip(roles, map(str.strip, values), strict=False)))
        for line, values in enumerate(lines, 1)
        if values and not (has_header and line == 1)
    ]
    found = Collector(source)
    paths = found.listing.find_all({row.get('file', '') for _, row in rows})
    place: dict[str, int | None] = {}
    classes: dict[str, int] = {}
    for line, row in rows:
        name, where = row.get('file', ''), f'{source.ann}, line {line}'
        path = paths[name]
        if path is None:
            kind = 'image not found, or one name of several for it'
            found.errors.add(kind, f'{where}: {name!r}')
        elif path not in place:
            place[path] = found.add_image(name, path, source.ann)
        image, box = place.get(path), None
        try:
            if image is not None:
                box = _box(row, found.images[image][4:])
        except (TypeError, ValueError) as error:
            found.errors.add('line that is not a box', f'{where}: {error}')
        if box is not None:
            label = row.get('label') or 'object'
            label = classes.setdefault(label, len(classes))
            found.add_box(image, line, label, box)
    return found.table(list(classes))


def _box(row: dict[str, str], size: tuple) -> list[float] | None:
    """A line's box in pixels; None for an image without objects."""
    corners = 'x1' in row and 'box' not in row
    values = [row.get(name, '') for name in (_CORNERS if corners else _SIZED)]
    if 'box' in row:
        text = row['box'].replace('(', '[').replace(')', ']')
        values = json.loads(text) if text else []
    if all(value == '' for value in values):
        return None
    x, y, right, bottom = map(float, values)
    if not corners:
        return [x, y, right, bottom]
    if max(right, bottom) <= 1 and min(size) > 2:
        # Open Images counts in shares of the image.
        x, right = x * size[0], right * size[0]
        y, bottom = y * size[1], bottom * size[1]
    return [x, y, right - x, bottom - y]
