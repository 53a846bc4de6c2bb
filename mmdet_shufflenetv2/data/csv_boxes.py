"""Boxes in a CSV file, one per line, in the columns that exports have.

Known are TensorFlow's and Roboflow's (filename, width, height, class, xmin,
ymin, xmax, ymax), makesense's, RetinaNet's without a header (path, x1, y1, x2,
y2, class), Kaggle's ``bbox`` column and Open Images' shares of the image.
"""

import csv
import io
import json
from collections.abc import Iterator

from .images import image_size
from .listing import Listing
from .table import (
    BoxTable,
    DatasetError,
    Problems,
    Source,
    assemble,
    read_text,
)

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
_HEADERLESS = (
    ('file', 'x1', 'y1', 'x2', 'y2', 'label'),
    ('label', 'x', 'y', 'w', 'h', 'file', 'width', 'height'),
)


def columns_of(path: str, first: list[str]) -> tuple[list[str], bool] | None:
    """What a file's columns are, and whether its first line names them.

    Returns:
        None if the file is not one of boxes.
    """
    words = [word.strip().lower() for word in first]
    known = {
        word: role for role, all_ in _COLUMNS.items() for word in all_.split()
    }
    roles = [known.get(word, '') for word in words]
    if 'w' not in roles and {'x', 'y', 'width', 'height'} <= set(roles):
        # With a corner, and without another size, they are the box's.
        roles = [dict(width='w', height='h').get(r, r) for r in roles]
    if 'file' in roles and (
        'box' in roles
        or {'x1', 'y1', 'x2', 'y2'} <= set(roles)
        or {'x', 'y', 'w', 'h'} <= set(roles)
    ):
        return roles, True
    for roles in _HEADERLESS:
        numbers = [
            word
            for role, word in zip(roles, words, strict=False)
            if role not in ('file', 'label')
        ]
        if len(words) == len(roles) and all(map(_is_number, numbers)):
            return list(roles), False
    return None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_csv(source: Source) -> BoxTable:
    """Read a CSV file of boxes; an image without any has one empty line.

    Raises:
        DatasetError: Its columns are not known.
    """
    lines = list(csv.reader(io.StringIO(read_text(source.ann))))
    found = columns_of(source.ann, lines[0]) if lines else None
    if found is None:
        raise DatasetError(
            f'{source.ann}: expected columns such as filename, class, xmin, '
            f'ymin, xmax, ymax, got {", ".join(lines[0]) if lines else ""}'
        )
    roles, has_header = found
    problems = Problems()
    images, rows = [], []
    place: dict[str, int] = {}
    classes: dict[str, int] = {}
    listing = Listing(source.images)
    broken = set()
    for number, line in enumerate(lines, 1):
        if not line or (has_header and number == 1):
            continue
        values = dict(zip(roles, (v.strip() for v in line), strict=False))
        where = f'{source.ann}, line {number}'
        name = values.get('file', '')
        path = listing.find(name) or listing.find_stem(name)
        if path is None:
            problems.add('image that is not there', f'{where}: {name!r}')
            continue
        if path in broken:
            continue
        if path not in place:
            try:
                size = image_size(path, source.exif)
            except DatasetError as error:
                problems.add('broken image; left out', str(error))
                broken.add(path)
                continue
            place[path] = len(images)
            images.append((name, path, *size, source.ann))
        try:
            box = _box(values, images[place[path]][2:4])
        except ValueError as error:
            problems.add('line that is not a box', f'{where}: {error}')
            continue
        if box is None:
            continue
        label = values.get('label') or 'object'
        label = classes.setdefault(label, len(classes))
        rows.append((place[path], number, label, *box, False))
    return assemble(source, list(classes), images, rows, problems)


def _box(values: dict[str, str], size) -> list[float] | None:
    if 'box' in values:
        if not values['box']:
            return None
        box = json.loads(values['box'].replace('(', '[').replace(')', ']'))
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f'expected 4 numbers, got {values["box"]!r}')
        return [float(value) for value in box]
    corners = 'x1' in values
    names = ('x1', 'y1', 'x2', 'y2') if corners else ('x', 'y', 'w', 'h')
    texts = [values.get(name, '') for name in names]
    if not any(texts):
        return None
    x, y, right, bottom = (float(text) for text in texts)
    if corners:
        if max(right, bottom) <= 1 and min(size) > 2:
            # Open Images counts in shares of the image.
            x, right = x * size[0], right * size[0]
            y, bottom = y * size[1], bottom * size[1]
        right, bottom = right - x, bottom - y
    return [x, y, right, bottom]


def looks_like_boxes(path: str) -> bool:
    """Whether a CSV file's first line is that of boxes."""
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            first: Iterator = csv.reader([file.readline()])
            return columns_of(path, next(first, [])) is not None
    except (OSError, UnicodeDecodeError):
        return False
