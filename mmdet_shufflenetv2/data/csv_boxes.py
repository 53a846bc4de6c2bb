"""CSV files with one box per line, in the columns of common exports.

Supported are the columns of TensorFlow, Roboflow, makesense, RetinaNet,
Kaggle, Open Images, VIA, AutoML and similar names. A box is two corners, or a
corner or centre with a size, in one or four columns, in pixels or fractions of
the image size.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .listing import Collector, is_image, role_of
from .rules import BORDER_TOLERANCE_PX
from .table import (
    BoxTable,
    DatasetError,
    Source,
    box_around,
    decode_text,
    near_whole,
    shorten,
)

CSV_SUFFIXES = ('.csv', '.tsv')
#: Column names by role, normalised by :func:`_plain`; the first one present
#: that has no other role yet is used.
_NAMES = {
    'file': 'filename filenames filepath imagename imagenames imagepath '
    'imagefilename imagefile imageurl imgname imgpath imgfile path image '
    'images img fname file imageid imgid frame photo picture patientid name',
    'x1': 'x0 xmin x1 xstart xtl left xtopleft xupperleft',
    'y1': 'y0 ymin y1 ystart ytl top ytopleft yupperleft',
    **{name: name for name in 'xywh'},
    'x2': 'xmax x2 xend xbr right xbottomright xlowerright x1',
    'y2': 'ymax y2 yend ybr bottom ybottomright ylowerright y1',
    'cx': 'xcenter xcentre cx xc',
    'cy': 'ycenter ycentre cy yc',
    'box': 'bbox box boundingbox geometry',
    'shape': 'regionshapeattributes',
    'attributes': 'regionattributes',
    'width': 'width imagewidth imgwidth',
    'height': 'height imageheight imgheight',
    'split': 'split set subset partition',
    'crowd': 'isgroupof iscrowd',
    'unused': 'source id fileattributes',
}
#: Names of the column of the class, best first.
_LABELS = (
    'classname labelname categoryname instanceclassname class label category '
    'species object objectname celltype name annotationtag tag classes labels '
    'cls target classid labelid categoryid'
)
_CORNERS, _SIZED = 'x1, y1, x2, y2', 'x, y, width, height'
_CENTRED = 'x, y of the centre, width, height'
#: Roles that make up a box, in order of preference, and what they may mean,
#: the likeliest first; see :data:`MAX_UNFIT`.
_BOXES = {
    ('x1', 'y1', 'x2', 'y2'): (_CORNERS,),
    ('x', 'y', 'x2', 'y2'): (_CORNERS,),
    ('x1', 'y1', 'w', 'h'): (_SIZED,),
    ('x', 'y', 'w', 'h'): (_SIZED, _CENTRED),
    ('cx', 'cy', 'w', 'h'): (_CENTRED,),
    ('a', 'b', 'c', 'd'): (_CORNERS, _SIZED),
    ('box',): (_SIZED, _CORNERS, _CENTRED),
    ('shape',): (_SIZED,),
}
#: Columns of files without a header, by what :func:`_kind` says of each cell;
#: '-' is ignored.
_HEADERLESS = {
    'fnnnnt': 'file a b c d ?class',
    'fnnnnn': 'file a b c d ?class',
    'fnnnntnn': 'file a b c d ?class width height',
    'fnntnnnn': 'file width height ?class a b c d',
    'tnnnnfnn': '?class x1 y1 w h file width height',
    'tftnneennee': 'split file ?class x1 y1 - - x2 y2 - -',
    'tftnnnnnnnn': 'split file ?class x1 y1 - - x2 y2 - -',
}
_NOTHING = {'', 'nan', 'none', 'null', '[]', '{}'}
_NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?', re.I)
#: Boxes without larger numbers are in fractions of the image size. Some exceed
#: 1 by rounding.
MAX_FRACTION = 1.5
#: A few boxes may be wrong: unit and meaning of the columns are the first that
#: at most this fraction of the boxes do not fit, or else the first meaning.
MAX_UNFIT = 0.25
_NO_BOX = 'line that is not a box'
#: The cells of a line by role, or by ``?`` and the name of the column.
_Row = dict[str, str]


class _Line(NamedTuple):
    """The content of a line."""

    where: str
    number: int
    row: _Row
    size: tuple[float, float] | None  # of the image, if stated
    box: list[float]  # numbers as in the file; [] if there is no box


def read_csv(source: Source) -> BoxTable:
    """Read a CSV file of boxes; an empty line lists an image without boxes."""
    found, ann = Collector(source), source.ann
    try:
        # Excel writes in the machine's code page.
        text = decode_text(content := Path(ann).read_bytes(), 'cp1252')
        layout = _find_layout(text)
        rows = list(_rows(text, layout[0])) if layout else []
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f'{ann} cannot be read: {error}') from error
    if not layout:
        raise DatasetError(
            f'{ann}: expected columns such as filename, class, xmin, ymin, '
            f'xmax, ymax, got {text.partition(chr(10))[0]!r:.200}'
        )
    _, skipped, columns = layout
    roles = next(each for each in _BOXES if {*each} <= {*columns})
    lines, padding = [], [''] * len(columns)
    for number, cells in rows[skipped:]:
        if any(cells):
            row = dict(zip(columns, cells + padding, strict=False))
            lines.append(_read_line(found, number, row, roles))
    meanings, column = _BOXES[roles], _label_column(ann, lines)
    images = _add_images(found, lines, meanings[0])
    lines = [line for line in lines if line.box and line.row['file'] in images]
    sizes = [found.images[images[line.row['file']]][-1] for line in lines]
    boxes, meaning = _in_pixels(lines, sizes, meanings)
    texts = [line.row.get(column, '') for line in lines]
    labels = {*texts}
    if not text.isascii() and text.encode('cp1252', 'ignore') == content:
        found.warnings.add('file not in UTF-8, but read as cp1252', ann)
    if meaning != meanings[0]:
        found.warnings.add(f'file whose boxes are read as {meaning}', ann)
    if len(boxes) and boxes.max() <= 100 and np.min(sizes) >= 200:
        found.warnings.add('file of numbers that may be in per cent', ann)
    if labels == {''}:
        found.warnings.add("file without classes; all are 'object'", ann)
    names = _class_names(ann, labels - {''})
    classes: dict[str, int] = {}
    for line, text, box in zip(lines, texts, boxes, strict=True):
        name = names.get(text, text or 'object')
        if text or (labels == {''} and any(line.box)):
            label = classes.setdefault(name, len(classes))
            crowd = line.row.get('crowd', '').lower() in ('1', '1.0', 'true')
            image = images[line.row['file']]
            found.add_box(image, line.number, label, box, crowd)
        # Some tools write zeros for an image without objects.
        elif any(line.box):
            found.errors.add(_NO_BOX, f'{line.where}: it has no class')
    return found.table(list(classes))


def looks_like_boxes(start: bytes) -> bool:
    """Return whether the first lines of a CSV file are those of boxes."""
    try:
        return _find_layout(decode_text(start, 'latin-1')) is not None
    except (ValueError, csv.Error):
        return False


# Layout of the file ------------------------------------------------------


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line."""
    lines = io.StringIO(text, newline='')
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        yield reader.line_num, [cell.strip() for cell in cells]


def _find_layout(text: str) -> tuple[str, int, list[str]] | None:
    """Return delimiter, header lines and keys of rows; None if not boxes."""
    for delimiter in ',;\t|':
        has_header = False
        for index, (_, cells) in enumerate(islice(_rows(text, delimiter), 20)):
            if columns := _named_columns(cells):
                return delimiter, index + 1, columns
            # Below an unknown header, columns may be in any order.
            has_header |= any(cells) and not any(map(is_image, cells))
            kinds = ''.join(map(_kind, cells))
            if kinds in _HEADERLESS and not has_header:
                return delimiter, 0, _HEADERLESS[kinds].split()
    return None


def _plain(name: str) -> str:
    """Simplify a name: no case, punctuation or 'bbox'; 'minx' is 'xmin'."""
    word = re.sub('[^a-z0-9]', '', name.lower())
    end = re.sub(
        '^(bbox|bb|box|boundingbox|rect|roi|points)(?!ox$|$)', '', word
    )
    places = 'min|max|start|end|tl|br|cent.+|.+left|.+right'
    end = re.sub(f'^({places})(corner)?([xy])$', r'\3\1', end)
    return end[0] if end != word and end in ('width', 'height') else end


def _named_columns(header: list[str]) -> list[str] | None:
    """Find the columns in a header; None if it is not that of boxes."""
    words = [_plain(name) for name in header]
    columns = [f'?{name}' for name in header]
    for role, names in _NAMES.items():
        known = [words.index(name) for name in names.split() if name in words]
        free = [index for index in known if columns[index][0] == '?']
        if free:
            columns[free[0]] = role
    if not {*columns} & {'w', 'x2', 'box', 'shape'}:
        # Without any of these, width and height are the size of the box.
        own = dict(width='w', height='h')
        columns = [own.get(role, role) for role in columns]
    has_box = any({*roles} <= {*columns} for roles in _BOXES)
    return columns if has_box and 'file' in columns else None


# Content of a line -------------------------------------------------------


def _kind(cell: str) -> str:
    """Return 'f' for an image file, 'n' number, 't' other text, 'e' empty."""
    if cell.lower() in _NOTHING:
        return 'e'
    if _NUMBER.fullmatch(cell.replace(',', '.')):
        return 'n'
    return 'f' if is_image(cell) else 't'


def _read_line(
    found: Collector, number: int, row: _Row, roles: tuple[str, ...]
) -> _Line:
    """Parse a line; an unreadable line has no box."""
    where, box = f'{found.source.ann}, line {number}', []
    with found.rejecting(_NO_BOX, where):
        for name, value in json.loads(row.get('attributes') or '{}').items():
            if isinstance(value, dict):  # check boxes
                value = next(filter(value.get, value), '')
            row[f'?{name}'] = str(value).strip()
        box = _box([row[role] for role in roles], roles)
    sides = [row.get(s, '').replace(',', '.') for s in ('width', 'height')]
    size = [float(side) if _kind(side) == 'n' else 0 for side in sides]
    size = tuple(size) if min(size) >= 1 else None
    return _Line(where, number, row, size, box)


def _box(texts: list[str], roles: tuple[str, ...]) -> list[float]:
    """Return the four numbers of a box; [] for an image without objects."""
    if {*map(_kind, texts)} == {'e'}:
        return []
    if roles == ('shape',):
        return _box_around_shape(json.loads(texts[0]))
    if roles == ('box',):
        values = [float(match[0]) for match in _NUMBER.finditer(texts[0])]
        if _NUMBER.sub('', texts[0]).strip('()[], ') or len(values) < 4:
            raise ValueError(f'expected 4 numbers, got {texts[0]!r:.80}')
        return values if len(values) == 4 else box_around(values)
    return [float(text.replace(',', '.')) for text in texts]


def _box_around_shape(shape: dict) -> list[float]:
    """Return the box around a VIA region: polygon, ellipse or rectangle."""
    if 'all_points_x' in shape:
        xs, ys = shape['all_points_x'], shape['all_points_y']
        return box_around(list(zip(xs, ys, strict=True)))
    if 'cx' in shape:
        rx, ry = (shape.get(r, shape.get('r')) for r in ('rx', 'ry'))
        return [shape['cx'] - rx, shape['cy'] - ry, 2 * rx, 2 * ry]
    return [float(shape.get(e)) for e in ('x', 'y', 'width', 'height')]


# Interpretation of all lines together ------------------------------------


def _label_column(ann: str, lines: list[_Line]) -> str | None:
    """Choose the column of the class by its name, or the only one of text."""
    keys = dict.fromkeys(key for line in lines for key in line.row)
    columns = {key: _plain(key) for key in keys if key[0] == '?'}
    texts = [
        key
        for key in columns
        if any(_kind(line.row.get(key, '')) == 't' for line in lines)
    ]
    labels, roles = _LABELS.split(), ' '.join(_NAMES.values()).split()
    known = [key for word in labels for key in columns if columns[key] == word]
    others = [key for key in texts if columns[key] not in roles]
    if not known and len(others) > 1:
        raise DatasetError(
            f'{ann}: expected a column called class, or only one with text, '
            f'got {shorten(key[1:] for key in others)}'
        )
    known = [key for key in known if key in texts] or known or others
    return next(iter(known), None)


def _edges(lines: list[_Line], meaning: str) -> np.ndarray:
    """Return left, top, right and bottom edges in the file's unit, (K, 4)."""
    values = np.array([line.box for line in lines], float).reshape(-1, 4)
    low, high = values[:, :2], values[:, 2:]
    if meaning == _SIZED:
        high = low + high
    elif meaning == _CENTRED:
        low, high = low - high / 2, low + high / 2
    return np.hstack([low, high])


def _add_images(
    found: Collector, lines: list[_Line], meaning: str
) -> dict[str, int]:
    """Add each image once; return the indices by the names in the lines."""
    ann, added = found.source.ann, {}
    stated = [line for line in lines if line.box and line.size]
    sizes = np.array([line.size for line in stated]).reshape(-1, 2)
    inside = _edges(stated, meaning)[:, 2:] <= sizes + BORDER_TOLERANCE_PX
    # If most boxes do not fit, these sizes are not those of the images.
    are_sizes = 2 * inside.all(axis=1).sum() >= len(stated)
    paths = found.listing.find_all({line.row['file'] for line in lines}, ann)
    for line in lines:
        name, split = line.row['file'], role_of(line.row.get('split', ''))
        path, size = paths[name], line.size if are_sizes else None
        if path is None:
            found.no_image(f'{line.where}: {name!r}')
        elif path not in added:
            added[path] = found.add_image(name, path, ann, size, split=split)
    images = {name: added.get(path) for name, path in paths.items()}
    return {name: image for name, image in images.items() if image is not None}


def _in_pixels(
    lines: list[_Line], sizes: list, meanings: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """Return the boxes of a table, float64 (K, 4), and their meaning."""
    sizes = np.array(sizes, float).reshape(-1, 2)
    slack, boxes, allowed = BORDER_TOLERANCE_PX, [], MAX_UNFIT * len(lines)
    large = [max(map(abs, line.box)) > MAX_FRACTION for line in lines]
    are_fractions = sum(large) <= allowed
    for meaning in meanings:
        edges = _edges(lines, meaning)
        if are_fractions:
            edges = near_whole(edges * np.tile(sizes, 2))
        low, high = edges[:, :2], edges[:, 2:]
        boxes.append(np.hstack([low, high - low]))
        fits = (low >= -slack) & (low <= high) & (high <= sizes + slack)
        if np.sum(~fits.all(axis=1)) <= allowed:
            return boxes[-1], meaning
    return boxes[0], meanings[0]


def _class_names(ann: str, codes: set[str]) -> dict[str, str]:
    """Look up numbers or Open Images codes in a near file of two columns."""
    if not all(re.fullmatch(r'\d+|/m/\w+', code) for code in codes):
        return {}
    folder = Path(ann).parent
    for file in sorted([*folder.iterdir(), *folder.parent.glob('metadata/*')]):
        is_csv = file.suffix.lower() in CSV_SUFFIXES
        if is_csv and file.stat().st_size <= 1 << 20:
            text = decode_text(file.read_bytes(), 'latin-1')
            rows = [row for _, row in _rows(text, ',') if len(row) == 2]
            names = dict(rows) | dict(row[::-1] for row in rows)
            texts = [names.get(code, '') for code in codes]
            if {*map(_kind, texts)} == {'t'}:
                return dict(zip(codes, texts, strict=True))
    return {}
