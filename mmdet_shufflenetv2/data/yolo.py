"""YOLO's text files: one per image, one line per object.

A line is ``class cx cy width height`` in shares of the image, with a score or
not, or ``class x1 y1 x2 y2 ...``, a polygon. Class names are in a YAML file
(Ultralytics, Roboflow, FiftyOne) or one per line (CVAT, Label Studio).
"""

import os
from pathlib import Path

import numpy as np
import yaml

from .listing import Collector
from .table import BoxTable, DatasetError, Source, read_text

#: Files that name the classes, one per line.
NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', '_darknet.labels')


def read_yaml(path: str | os.PathLike) -> dict:
    """A YOLO data file."""
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DatasetError(f'{path} is not readable YAML: {error}') from error
    if not isinstance(data, dict):
        raise DatasetError(
            f"{path}: expected entries such as 'names' and 'train', got a "
            f'{type(data).__name__}'
        )
    return data


def class_names(ann: str | os.PathLike) -> list[str] | None:
    """The names in a YAML or text file; None where ``ann`` is a folder."""
    path = Path(ann)
    if path.is_dir():
        return None
    if path.suffix.lower() in ('.yaml', '.yml'):
        names = read_yaml(path).get('names')
        if isinstance(names, dict):
            numbered = {str(key): name for key, name in names.items()}
            names = [numbered.get(str(i)) for i in range(len(names))]
    else:
        names = [line.strip() for line in read_text(path).splitlines()]
        names = [name for name in names if name]
    if not names or not isinstance(names, list) or None in names:
        raise DatasetError(
            f'{path}: expected the names of the classes, a list or numbered '
            f'from 0, got {names!r:.200}'
        )
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        raise DatasetError(f'{path}: duplicate class names: {names}')
    return names


def label_folders(folder: str | os.PathLike) -> list[Path]:
    """Where the label files of a folder's images may be, the likeliest first.

    That is with ``labels`` for the last ``images`` in the path, or with the
    images, or in a folder ``labels`` next to theirs.
    """
    path = Path(folder)
    parts = [part.lower() for part in path.parts]
    places = [path, path.parent / 'labels']
    if 'images' not in parts:
        return [*places, path.parent / 'labels' / path.name]
    at = len(parts) - 1 - parts[::-1].index('images')
    return [Path(*path.parts[:at], 'labels', *path.parts[at + 1 :]), *places]


def label_file(image: str) -> str | None:
    """The label file of an image, None if it has none."""
    name = Path(image).stem + '.txt'
    places = (each / name for each in label_folders(Path(image).parent))
    return next((str(place) for place in places if place.is_file()), None)


def read_yolo(source: Source) -> BoxTable:
    """Read the label file of every image below the folders."""
    names = class_names(source.ann)
    found = Collector(source)
    labelled = 0
    for name, path in found.listing.paths.items():
        file = label_file(path)
        labelled += file is not None
        try:
            lines = read_text(file).splitlines() if file else []
        except DatasetError as error:
            found.errors.add('label file that cannot be read', error)
            continue
        image = found.add_image(name, path, file or path)
        if image is not None:
            _read_lines(file, lines, image, names, found)
    if not labelled:
        raise DatasetError(
            f'none of the {len(found.images)} images of '
            f'{", ".join(source.images)} has a YOLO label file (NAME.txt '
            'beside it, or labels/ beside images/)'
        )
    if names is None:
        highest = max((int(row[2]) for row in found.rows), default=-1)
        names = [f'class_{number}' for number in range(highest + 1)]
        found.warnings.add(
            'data set without names of classes; they are called by their '
            'numbers',
            f'expected data.yaml or one of {", ".join(NAME_FILES)}',
        )
    return found.table(names)


def _read_lines(file, lines, image, names, found: Collector) -> None:
    for line, text in enumerate(lines, 1):
        words = text.split()
        if not words:
            continue
        try:
            label, box = _read_line(words, found.images[image][2:4])
            if label < 0 or (names and label >= len(names)):
                raise ValueError(
                    f'expected a class of 0 to {len(names or ()) - 1}, got '
                    f'{label}'
                )
        except ValueError as error:
            where = f'{file}, line {line}: {error}'
            found.errors.add('line that is not a box', where)
            continue
        found.rows.append((image, line, label, *box, False))


def _read_line(words: list[str], size) -> tuple[int, np.ndarray]:
    label, values = float(words[0]), np.array(words[1:], np.float64)
    if len(values) not in (4, 5) and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            'expected a class and 4 numbers, or a class and the points of a '
            f'polygon, got {len(words)} words'
        )
    if not label.is_integer():
        raise ValueError(f'expected a class number, got {words[0]!r}')
    if np.abs(values[:4]).max() > 2:
        raise ValueError(
            f'expected shares of the image, 0 to 1, got {" ".join(words[1:5])}'
        )
    size = np.array(size, np.float64)
    if len(values) <= 5:
        low, high = values[:2] - values[2:4] / 2, values[:2] + values[2:4] / 2
    else:
        points = values.reshape(-1, 2)
        low, high = points.min(0), points.max(0)
    # Numbers printed with few digits meet whole pixels only nearly; where one
    # lies within the rounding of the text, it is what was meant.
    digits = max(len(word.partition('.')[2]) for word in words[1:5])
    slack = np.minimum(size * 10.0 ** -(digits or 12) + 1e-9, 0.01)
    edges = np.stack([low, high]) * size
    whole = np.round(edges)
    edges = np.where(np.abs(edges - whole) <= slack, whole, edges)
    return int(label), np.concatenate([edges[0], edges[1] - edges[0]])
