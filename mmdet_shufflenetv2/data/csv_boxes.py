"""Boxes in a CSV file, one per line, in the columns that exports have.

Known are those of TensorFlow, Roboflow, makesense, RetinaNet, Kaggle, Open
Images, VIA, AutoML and what is named alike: two corners, or a corner or the
centre with a size, each in its own column or all in one, in pixels or shares
of the image.
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
#: Names of columns by what these hold, as :func:`_plain` has them; the first
#: one that is there, and holds nothing else yet, counts.
_NAMES = {
    'file': 'filename filenames filepath imagename imagenames imagepath '
    'imagefile imageurl path image images img fname file imageid patientid '
    'name',
    'label': 'classname labelname categoryname instanceclassname class label '
    'category object objectname type celltype name annotationtag tag classid '
    'labelid categoryid',
    'x1': 'x0 xmin x1 xtl left x xtopleft upperleftcornerx',
    'y1': 'y0 ymin y1 ytl top y ytopleft upperleftcornery',
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
#: Columns of a box in the order of preference, and what they hold: the first
#: of these by which every box is in its image, else the first one.
_BOXES = {
    ('x1', 'y1', 'x2', 'y2'): (_CORNERS, _SIZED),
    ('x1', 'y1', 'w', 'h'): (_SIZED, _CENTRED),
    ('cx', 'cy', 'w', 'h'): (_CENTRED,),
    ('box',): (_SIZED, _CORNERS, _CENTRED),
    ('shape',): (_SIZED,),
}
#: Columns of files without a header; '-' is passed over.
_HEADERLESS = (
    'file x1 y1 x2 y2 label',
    'file x1 y1 x2 y2 label width height',
    'file width height label x1 y1 x2 y2',
    'label x1 y1 w h file width height',
    'split file label x1 y1 - - x2 y2 - -',
)
_NOTHING = {'', 'nan', 'none', 'null', '[]', '{}'}
_NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?', re.I)
#: How large a file of names of classes may be.
MAX_NAMES_BYTES = 1 << 20
#: Up to which numbers are shares of the image, by rounding more than 1.
MAX_SHARE = 1.5
_NO_BOX = 'line that is not a box'
#: By name, what a line of a file has in a column.
_Row = dict[str, str]


class _Line(NamedTuple):
    """What a line says; the box is as the file has it, [] for none."""

    where: str
    number: int
    file: str
    split: str | None
    size: tuple[float, float]  # NaN where it does not say
    label: str
    box: list[float]


def read_csv(source: Source) -> BoxTable:
    """Read a CSV file of boxes; an image without any has one empty line."""
    found, ann = Collector(source), source.ann
    try:
        # Excel writes in the code page of its machine.
        text = decode_text(Path(ann).read_bytes(), 'cp1252')
        layout = _layout(text)
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
    readings = _BOXES[roles]
    images = _add_images(found, lines, readings[0])
    lines = [line for line in lines if line.box and line.file in images]
    sizes = [found.images[images[line.file]][-1] for line in lines]
    boxes, what = _in_pixels(lines, sizes, readings)
    labels = {line.label for line in lines}
    odd = {
        f'file of boxes that are taken as {what}': what != readings[0],
        'file of boxes that all lie in the first 100 px, as per cent do': (
            len(boxes) and boxes.max() <= 100 and np.min(sizes) >= 200
        ),
        "file without a class of any box; all are called 'object'": (
            labels == {''}
        ),
    }
    for kind, is_so in odd.items():
        if is_so:
            found.warnings.add(kind, ann)
    names = _names_of_codes(ann, labels - {''})
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
    """Whether the first lines of a CSV file are those of boxes."""
    try:
        with open(path, 'rb') as file:
            text = decode_text(file.read(1 << 16), 'latin-1')
        return _layout(text) is not None
    except (OSError, ValueError, csv.Error):
        return False


# How a file is written ---------------------------------------------------


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of each line and its cells."""
    lines = io.StringIO(text, newline='')
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        yield reader.line_num, [cell.strip() for cell in cells]


def _layout(text: str) -> tuple[str, int, dict[str, int]] | None:
    """Delimiter, number of lines before the boxes, and the columns; None if a
    file does not hold boxes.
    """
    for delimiter in ',;\t|':
        has_header = False
        for index, (_, cells) in enumerate(islice(_rows(text, delimiter), 20)):
            if columns := _named_columns(cells):
                return delimiter, index + 1, columns
            # A header that is not known may mean another order.
            has_header |= any(cells) and not any(map(is_image, cells))
            if not has_header and (columns := _usual_columns(cells)):
                return delimiter, 0, columns
    return None


def _plain(name: str) -> str:
    """A column's name without case, punctuation and 'bbox' before it."""
    word = re.sub('[^a-z0-9]', '', name.lower())
    end = re.sub('^(bbox|box|boundingbox|rect|roi|points)(?=.)', '', word)
    return end[0] if end != word and end in ('width', 'height') else end


def _named_columns(header: list[str]) -> dict[str, int] | None:
    """The columns by a header; None if it is not that of boxes."""
    words = [_plain(name) for name in header]
    columns: dict[str, int] = {}
    for role, names in _NAMES.items():
        known = (words.index(name) for name in names.split() if name in words)
        index = next((i for i in known if i not in columns.values()), None)
        columns |= {} if index is None else {role: index}
    if not columns.keys() & {'w', 'x2', 'box', 'shape'}:
        # With a corner, and without another size, they are the box's.
        own = dict(width='w', height='h')
        columns = {own.get(role, role): i for role, i in columns.items()}
    has_box = any(columns.keys() >= {*roles} for roles in _BOXES)
    return columns if has_box and 'file' in columns else None


def _usual_columns(cells: list[str]) -> dict[str, int] | None:
    """The columns of a file without a header, by one of its lines."""
    for roles in map(str.split, _HEADERLESS):
        row = dict(zip(roles, cells, strict=False))
        words = {'file', 'label', 'split', '-'}
        if (
            len(cells) == len(roles)
            and is_image(row['file'])
            and all(_is_number(row[role]) for role in row.keys() - words)
            # With a number for a class, other orders would fit as well.
            and (len(roles) == 6 or not _is_number(row['label']))
        ):
            return {role: index for index, role in enumerate(roles)}
    return None


# What a line says --------------------------------------------------------


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.replace(',', '.')) is not None


def _number(text: str) -> float:
    return float(text.replace(',', '.'))


def _read_line(
    found: Collector, number: int, row: _Row, roles: tuple[str, ...]
) -> _Line:
    """A line; one that cannot be read has no box."""
    where, label, box = f'{found.source.ann}, line {number}', '', []
    with found.rejecting(_NO_BOX, where):
        label, box = _label(row), _box(roles, row)
    # Some write zeros for an image without objects.
    box = box if label or any(box) else []
    sides = [row.get(side, '') for side in ('width', 'height')]
    size = tuple(_number(x) if _is_number(x) else np.nan for x in sides)
    size = size if min(size) >= 1 else (np.nan, np.nan)
    split = role_of(row.get('split', ''))
    return _Line(where, number, row['file'], split, size, label, box)


def _label(row: _Row) -> str:
    """A line's class, '' for none; in VIA it is one of the attributes."""
    if 'attributes' not in row:
        return row.get('label', '')
    known = _NAMES['label'].split()
    values = json.loads(row['attributes'] or '{}')
    for name in sorted(values, key=lambda name: _plain(name) not in known):
        value = values[name]
        if isinstance(value, dict):  # Of check boxes.
            value = next((each for each in value if value[each]), '')
        return str(value).strip()
    return ''


def _box(roles: tuple[str, ...], row: _Row) -> list[float]:
    """The four numbers of a box; [] for an image without objects."""
    texts = [row[role] for role in roles]
    if all(text.lower() in _NOTHING for text in texts):
        return []
    if roles == ('shape',):
        return _box_of_shape(json.loads(texts[0]))
    if roles == ('box',):
        values = [float(match[0]) for match in _NUMBER.finditer(texts[0])]
        if _NUMBER.sub('', texts[0]).strip('()[], ') or len(values) < 4:
            raise ValueError(f'expected 4 numbers, got {texts[0]!r:.80}')
        return values if len(values) == 4 else box_around(values)
    return list(map(_number, texts))


def _box_of_shape(shape: dict) -> list[float]:
    """The box of a region of VIA."""
    if 'all_points_x' in shape:
        xs, ys = shape['all_points_x'], shape['all_points_y']
        return box_around(list(zip(xs, ys, strict=True)))
    if 'cx' in shape:
        rx, ry = (shape.get(r, shape.get('r')) for r in ('rx', 'ry'))
        return [shape['cx'] - rx, shape['cy'] - ry, 2 * rx, 2 * ry]
    return [float(shape.get(e)) for e in ('x', 'y', 'width', 'height')]


# What the lines mean together --------------------------------------------


def _edges(lines: list[_Line], what: str) -> np.ndarray:
    """Left, top, right and lower edge of boxes in the file's unit, (K, 4)."""
    values = np.array([line.box for line in lines], float).reshape(-1, 4)
    low, high = values[:, :2], values[:, 2:]
    if what == _SIZED:
        high = low + high
    elif what == _CENTRED:
        low, high = low - high / 2, low + high / 2
    return np.hstack([low, high])


def _add_images(
    found: Collector, lines: list[_Line], what: str
) -> dict[str, int]:
    """Add each image once; gives its index by the name in a line."""
    stated = [line for line in lines if line.box and line.size[0] >= 1]
    sizes = np.array([line.size for line in stated]).reshape(-1, 2)
    inside = _edges(stated, what)[:, 2:] <= sizes + BORDER_TOLERANCE_PX
    # Else it is the size of something else, such as the box.
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
    lines: list[_Line], sizes: list, readings: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """Boxes as a table has them, float64 (K, 4), and what they were."""
    sizes = np.array(sizes, float).reshape(-1, 2)
    slack, boxes = BORDER_TOLERANCE_PX, []
    are_shares = all(
        not abs(value) > MAX_SHARE for line in lines for value in line.box
    )
    for what in readings:
        edges = _edges(lines, what)
        if are_shares:
            edges = near_whole(edges * np.tile(sizes, 2))
        low, high = edges[:, :2], edges[:, 2:]
        boxes.append(np.hstack([low, high - low]))
        if ((low >= -slack) & (low < high) & (high <= sizes + slack)).all():
            return boxes[-1], what
    return boxes[0], readings[0]


def _names_of_codes(ann: str, codes: set[str]) -> dict[str, str]:
    """Names of classes that are numbers or Open Images' codes, by a CSV file
    of two columns beside the annotations.
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
