"""YOLO's text files: one per image, one line per object.

A line is ``class cx cy width height`` in shares of the image, with a score or
not, or ``class x1 y1 x2 y2 ...``, a polygon. Class names are in a YAML file
(Ultralytics, Roboflow, FiftyOne) or one per line (CVAT, Label Studio).
"""

import os
import re
from pathlib import Path

import numpy as np

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

#: Files that name the classes, one per line.
NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', '_darknet.labels')


def read_yaml(path: str | os.PathLike) -> dict:
    """A YOLO data file.

    Raises:
        DatasetError: It is not one.
    """
    import yaml

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
    """The names in a YAML or text file; None where ``ann`` is a folder.

    Raises:
        DatasetError: There are none, or one of them twice.
    """
    path = Path(ann)
    if path.is_dir():
        return None
    if path.suffix.lower() in ('.yaml', '.yml'):
        names = read_yaml(path).get('names')
        if isinstance(names, dict):
            wanted = set(range(len(names)))
            if {int(key) for key in names} != wanted:
                raise DatasetError(
                    f"{path}: expected 'names' to be numbered from 0 to "
                    f'{len(names) - 1}, got {sorted(names)}'
                )
            names = [names[key] for key in sorted(names, key=int)]
    else:
        names = [line.strip() for line in read_text(path).splitlines()]
        names = [name for name in names if name]
    if not isinstance(names, list) or not names:
        raise DatasetError(f'{path} has no names of classes')
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f'{path}: duplicate class name {twice!r}')
    return names


def label_folders(folder: str | os.PathLike) -> list[Path]:
    """Where the label files of a folder's images may be, the likeliest first.

    That is with ``labels`` for the last ``images`` in the path, or with the
    images, or in a folder ``labels`` next to theirs.
    """
    path = Path(folder)
    parts = [part.lower() for part in path.parts]
    places = [path, path.parent / 'labels']
    if 'images' in parts:
        at = len(parts) - 1 - parts[::-1].index('images')
        places.insert(
            0, Path(*path.parts[:at], 'labels', *path.parts[at + 1 :])
        )
    else:
        places.append(path.parent / 'labels' / path.name)
    return places


def label_file(image: str) -> str | None:
    """The label file of an image, None if it has none."""
    name = Path(image).stem + '.txt'
    places = (each / name for each in label_folders(Path(image).parent))
    return next((str(place) for place in places if place.is_file()), None)


def read_yolo(source: Source) -> BoxTable:
    """Read the label file of every image below the folders.

    Raises:
        DatasetError: No image has one, or the class names are wrong.
    """
    names = class_names(source.ann)
    problems, warnings = Problems(), Problems()
    images, rows = [], []
    labelled = 0
    for name, path in Listing(source.images).paths.items():
        file = label_file(path)
        labelled += file is not None
        try:
            width, height = image_size(path, source.exif)
        except DatasetError as error:
            problems.add('broken image; left out', str(error))
            continue
        if file:
            rows += _read_lines(
                file, len(images), (width, height), names, problems
            )
        images.append((name, path, width, height, file or path))
    if not labelled:
        raise DatasetError(
            f'none of the {len(images)} images of '
            f'{", ".join(source.images)} has a YOLO label file (NAME.txt '
            'beside it, or labels/ beside images/)'
        )
    if names is None:
        highest = max((int(row[2]) for row in rows), default=-1)
        names = [f'class_{number}' for number in range(highest + 1)]
        warnings.add(
            'data set without names of classes; they are called by their '
            'numbers',
            f'expected data.yaml or one of {", ".join(NAME_FILES)}',
        )
    return assemble(source, names, images, rows, problems, warnings)


def _read_lines(file, image, size, names, problems) -> list[tuple]:
    """The rows of a label file; see :func:`assemble`."""
    rows = []
    for line, text in enumerate(read_text(file).splitlines(), 1):
        words = text.split()
        if not words:
            continue
        try:
            label, box = _read_line(words, size)
        except ValueError as error:
            problems.add(
                'line that is not a box', f'{file}, line {line}: {error}'
            )
            continue
        if label < 0 or (names is not None and label >= len(names)):
            problems.add(
                'class number without a name',
                f'{file}, line {line}: expected 0 to {len(names or ()) - 1}, '
                f'got {label}',
            )
            continue
        rows.append((image, line, label, *box, False))
    return rows


def _read_line(words: list[str], size) -> tuple[int, np.ndarray]:
    if len(words) not in (5, 6) and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(
            'expected a class and 4 numbers, or a class and the points of a '
            f'polygon, got {len(words)} words'
        )
    label, values = float(words[0]), np.array(words[1:], np.float64)
    if not label.is_integer():
        raise ValueError(f'expected a class number, got {words[0]!r}')
    if np.abs(values[:4]).max() > 2:
        raise ValueError(
            f'expected shares of the image, 0 to 1, got {" ".join(words[1:5])}'
        )
    size = np.array(size, np.float64)
    if len(words) <= 6:
        centre, half = values[:2], values[2:4] / 2
        low, high = (centre - half) * size, (centre + half) * size
    else:
        points = values.reshape(-1, 2) * size
        low, high = points.min(0), points.max(0)
    # Numbers printed with few digits meet whole pixels only nearly; where one
    # lies within the rounding of the text, it is what was meant.
    slack = 1.0 * size * 10.0 ** -_digits(words[1:5]) + 1e-9
    for edges in low, high:
        whole = np.round(edges)
        near = np.abs(edges - whole) <= np.minimum(slack, 0.01)
        edges[near] = whole[near]
    return int(label), np.concatenate([low, high - low])


def _digits(words: list[str]) -> int:
    """Digits after the point of the number that has most."""
    found = [re.fullmatch(r'[-+]?\d*\.(\d+)', word) for word in words]
    return max((len(match[1]) for match in found if match), default=12)
