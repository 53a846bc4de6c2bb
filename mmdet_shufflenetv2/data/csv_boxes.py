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
)

CSV_SUFFIXES = ('.csv', '.tsv')
#: Column names by role, normalised by :func:`_plain`; the first one present
#: that has no other role yet is used.
_NAMES = {
    'file': 'filename filenames filepath imagename imagenames imagepath '
    'imagefile imageurl path image images img fname file imageid patientid '
    'name',
    'label': 'classname labelname categoryname instanceclassname class label '
    'category object objectname type celltype name annotationtag tag classid '
    'labelid categoryid',
    'x1': 'x0 xmin x1 xtl left xtopleft upperleftcornerx',
    'y1': 'y0 ymin y1 ytl top ytopleft upperleftcornery',
    'x': 'x',
    'y': 'y',
    'x2': 'xmax x2 xbr right xbottomright lowerrightcornerx x1',
    'y2': 'ymax y2 ybr bottom ybottomright lowerrightcornery y1',
    'cx': 'xcenter xcentre centerx centrex cx xc',
    'cy': 'ycenter ycentre centery centrey cy yc',
    'w': 'w',
    'h': 'h',
    'box': 'bbox box boundingbox geometry',
    'shape': 'regionshapeattributes',
    'attributes': 'regionattributes',
    'width': 'width imagewidth imgwidth',
    'height': 'height imageheight imgheight',
    'split': 'split set subset partition',
}
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
#: Columns of files without a header; '-' is ignored.
_HEADERLESS = (
    'file a b c d label',
    'file a b c d label width height',
    'file width height label a b c d',
    'label x1 y1 w h file width height',
    'split file label x1 y1 - - x2 y2 - -',
)
_NOTHING = {'', 'nan', 'none', 'null', '[]', '{}'}
_NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?', re.I)
#: Larger CSV files are not searched for class names.
MAX_NAMES_BYTES = 1 << 20
#: Boxes without larger numbers are in fractions of the image size. Some exceed
#: 1 by rounding.
MAX_FRACTION = 1.5
#: A few boxes may be wrong: unit and meaning of the columns are the first that
#: at most this fraction of the boxes do not fit, or else the first meaning.
MAX_UNFIT = 0.25
_NO_BOX = 'line that is not a box'
#: The cells of a line by role.
_Row = dict[str, str]


class _Line(NamedTuple):
    """The content of a line."""

    where: str
    number: int
    file: str
    split: str | None
    size: tuple[float, float]  # of the image; NaN if not stated
    label: str
    box: list[float]  # numbers as in the file; [] if there is no box


def read_csv(source: Source) -> BoxTable:
    """Read a CSV file of boxes; an empty line lists an image without boxes."""
    found, ann = Collector(source), source.ann
    try:
        # Excel writes in the machine's code page.
        text = decode_text(Path(ann).read_bytes(), 'cp1252')
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
    roles = next(roles for roles in _BOXES if columns.keys() >= {*roles})
    lines = []
    for number, cells in rows[skipped:]:
        if any(cells):
            cells += [''] * (1 + max(columns.values()) - len(cells))
            row = {role: cells[index] for role, index in columns.items()}
            lines.append(_read_line(found, number, row, roles))
    meanings = _BOXES[roles]
    images = _add_images(found, lines, meanings[0])
    lines = [line for line in lines if line.box and line.file in images]
    sizes = [found.images[images[line.file]][-1] for line in lines]
    boxes, meaning = _in_pixels(lines, sizes, meanings)
    labels = {line.label for line in lines}
    if meaning != meanings[0]:
        found.warnings.add(f'file whose boxes are read as {meaning}', ann)
    if len(boxes) and boxes.max() <= 100 and np.min(sizes) >= 200:
        kind = 'file whose boxes all lie within 100 px; may be in per cent'
        found.warnings.add(kind, ann)
    if labels == {''}:
        kind = "file without classes; the only class is called 'object'"
        found.warnings.add(kind, ann)
    names = _class_names(ann, labels - {''})
    classes: dict[str, int] = {}
    for line, box in zip(lines, boxes, strict=True):
        if labels > {''} and not line.label:
            found.errors.add(_NO_BOX, f'{line.where}: it has no class')
            continue
        name = names.get(line.label, line.label or 'object')
        label = classes.setdefault(name, len(classes))
        found.add_box(images[line.file], line.number, label, box)
    return found.table(list(classes))


def looks_like_boxes(path: str) -> bool:
    """Return whether the first lines of a CSV file are those of boxes."""
    try:
        with open(path, 'rb') as file:
            text = decode_text(file.read(1 << 16), 'latin-1')
        return _find_layout(text) is not None
    except (OSError, ValueError, csv.Error):
        return False


# Layout of the file ------------------------------------------------------


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line."""
    lines = io.StringIO(text, newline='')
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        yield reader.line_num, [cell.strip() for cell in cells]


def _find_layout(text: str) -> tuple[str, int, dict[str, int]] | None:
    """Return delimiter, number of header lines, and column index by role;
    None if the file does not contain boxes.
    """
    for delimiter in ',;\t|':
        has_header = False
        for index, (_, cells) in enumerate(islice(_rows(text, delimiter), 20)):
            if columns := _named_columns(cells):
                return delimiter, index + 1, columns
            # Below an unknown header, columns may be in any order.
            has_header |= any(cells) and not any(map(is_image, cells))
            if not has_header and (columns := _headerless_columns(cells)):
                return delimiter, 0, columns
    return None


def _plain(name: str) -> str:
    """Strip case, punctuation and a prefix such as 'bbox' from a name."""
    word = re.sub('[^a-z0-9]', '', name.lower())
    end = re.sub('^(bbox|box|boundingbox|rect|roi|points)(?=.)', '', word)
    return end[0] if end != word and end in ('width', 'height') else end


def _named_columns(header: list[str]) -> dict[str, int] | None:
    """Find the columns in a header; None if it is not that of boxes."""
    words = [_plain(name) for name in header]
    columns: dict[str, int] = {}
    for role, names in _NAMES.items():
        known = (words.index(name) for name in names.split() if name in words)
        index = next((i for i in known if i not in columns.values()), None)
        if index is not None:
            columns[role] = index
    if not columns.keys() & {'w', 'x2', 'box', 'shape'}:
        # Without any of these, width and height are the size of the box.
        own = dict(width='w', height='h')
        columns = {own.get(role, role): i for role, i in columns.items()}
    has_box = any(columns.keys() >= {*roles} for roles in _BOXES)
    return columns if has_box and 'file' in columns else None


def _headerless_columns(cells: list[str]) -> dict[str, int] | None:
    """Recognise the columns of a file without a header by one line."""
    for roles in map(str.split, _HEADERLESS):
        row = dict(zip(roles, cells, strict=False))
        words = {'file', 'label', 'split', '-'}
        if (
            len(cells) == len(roles)
            and is_image(row['file'])
            and all(_is_number(row[role]) for role in row.keys() - words)
            # If the class is a number too, the order is ambiguous.
            and (len(roles) == 6 or not _is_number(row['label']))
        ):
            return {role: index for index, role in enumerate(roles)}
    return None


# Content of a line -------------------------------------------------------


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.replace(',', '.')) is not None


def _number(text: str) -> float:
    return float(text.replace(',', '.'))


def _read_line(
    found: Collector, number: int, row: _Row, roles: tuple[str, ...]
) -> _Line:
    """Parse a line; an unreadable line has no box."""
    where, label, box = f'{found.source.ann}, line {number}', '', []
    with found.rejecting(_NO_BOX, where):
        label, box = _label(row), _box(roles, row)
    # Some tools write zeros for an image without objects.
    box = box if label or any(box) else []
    sides = [row.get(side, '') for side in ('width', 'height')]
    size = tuple(_number(x) if _is_number(x) else np.nan for x in sides)
    size = size if min(size) >= 1 else (np.nan, np.nan)
    split = role_of(row.get('split', ''))
    return _Line(where, number, row['file'], split, size, label, box)


def _label(row: _Row) -> str:
    """Return the class, '' if none; VIA has it among the attributes."""
    if 'attributes' not in row:
        return row.get('label', '')
    known = _NAMES['label'].split()
    values = json.loads(row['attributes'] or '{}')
    for name in sorted(values, key=lambda name: _plain(name) not in known):
        value = values[name]
        if isinstance(value, dict):  # check boxes
            value = next((each for each in value if value[each]), '')
        return str(value).strip()
    return ''


def _box(roles: tuple[str, ...], row: _Row) -> list[float]:
    """Return the four numbers of a box; [] for an image without objects."""
    texts = [row[role] for role in roles]
    if all(text.lower() in _NOTHING for text in texts):
        return []
    if roles == ('shape',):
        return _box_around_shape(json.loads(texts[0]))
    if roles == ('box',):
        values = [float(match[0]) for match in _NUMBER.finditer(texts[0])]
        if _NUMBER.sub('', texts[0]).strip('()[], ') or len(values) < 4:
            raise ValueError(f'expected 4 numbers, got {texts[0]!r:.80}')
        return values if len(values) == 4 else box_around(values)
    return list(map(_number, texts))


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
    stated = [line for line in lines if line.box and line.size[0] >= 1]
    sizes = np.array([line.size for line in stated]).reshape(-1, 2)
    inside = _edges(stated, meaning)[:, 2:] <= sizes + BORDER_TOLERANCE_PX
    # If most boxes do not fit, these sizes are not those of the images.
    are_sizes = 2 * inside.all(axis=1).sum() >= len(stated)
    names = {line.file for line in lines}
    paths = found.listing.find_all(names, found.source.ann)
    added: dict[str | None, int | None] = {None: None}
    for line in lines:
        path = paths[line.file]
        if path is None:
            found.no_image(f'{line.where}: {line.file!r}')
        elif path not in added:
            size = line.size if are_sizes and line.size[0] >= 1 else None
            record = found.source.ann
            added[path] = found.add_image(
                line.file, path, record, size, split=line.split
            )
    images = {name: added[path] for name, path in paths.items()}
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
    """Look up class numbers or Open Images codes in a CSV file of two columns
    next to the annotations.
    """
    if not all(re.fullmatch(r'\d+|/m/\w+', code) for code in codes):
        return {}
    for file in sorted(Path(ann).parent.iterdir()):
        is_csv = file.suffix.lower() in CSV_SUFFIXES
        if is_csv and file.stat().st_size <= MAX_NAMES_BYTES:
            text = decode_text(file.read_bytes(), 'latin-1')
            rows = [cells for _, cells in _rows(text, ',') if any(cells)]
            rows = rows if all(len(cells) == 2 for cells in rows) else []
            for step in 1, -1:
                names = dict(cells[::step] for cells in rows)
                texts = [names.get(code, '') for code in codes]
                if all(texts) and not any(map(_is_number, texts)):
                    return dict(zip(codes, texts, strict=True))
    return {}
