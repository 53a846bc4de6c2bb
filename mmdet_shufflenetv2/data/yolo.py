"""YOLO text files: one per image, one line per object.

A line is ``class cx cy width height [score]`` or a polygon, ``class x1 y1 x2
y2 ...``, in fractions of the image size. If the YAML file has a ``kpt_shape``,
keypoints follow the box. Class names are in the YAML file (Ultralytics,
Roboflow, FiftyOne), or in a text file, one per line (CVAT, Label Studio).
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from .listing import Collector, plain
from .table import BoxTable, DatasetError, Source, near_whole, read_text

#: Files that name the classes, one per line.
NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', '_darknet.labels')
#: Folders of label files; makesense writes labels_PROJECT_DATE.
LABEL_FOLDER = re.compile('labels.*|annotations', re.I)


def read_yaml(path: str | os.PathLike) -> dict:
    """Read a YOLO data file; all values stay text, so ``no`` is a name."""
    try:
        data = yaml.load(read_text(path), yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise DatasetError(f'{path} is not readable YAML: {error}') from error
    return data if isinstance(data, dict) else {}


def class_names(ann: str | os.PathLike) -> list[str] | None:
    """Read the names in a YAML or text file; None if ``ann`` is a folder."""
    path = Path(ann)
    if path.is_dir():
        return None
    if path.suffix.lower() in ('.yaml', '.yml'):
        names = read_yaml(path).get('names')
        if isinstance(names, dict):
            names = [names.get(str(i)) for i in range(len(names))]
    else:
        lines = read_text(path, 'cp1252').splitlines()
        names = list(filter(None, map(str.strip, lines)))
    is_list = isinstance(names, list) and names and all(names)
    if not is_list or len(set(map(str, names))) < len(names):
        raise DatasetError(
            f'{path}: expected unique class names, as a list or numbered from '
            f'0, got {names!r:.200}'
        )
    return list(map(str, names))


def label_files(images: Iterable[str]) -> dict[str, str]:
    """Find the label files of images; those without one are left out.

    The labels of a folder's images are in the first of its label folders that
    has any. Names may differ from the images' in case and Unicode form.
    """
    stems, found = defaultdict(dict), {}
    for image in images:
        folder, name = os.path.split(image)
        stems[folder][image] = os.path.splitext(name)[0]
    subfolders = cache(_subfolders)
    for folder, own in stems.items():
        for place in _label_folders(Path(folder), subfolders):
            files = sorted(place.glob('*.[tT][xX][tT]'))
            names = {_key(file.stem): str(file) for file in files}
            names |= {file.stem: str(file) for file in files}
            keys = {i: s if s in names else _key(s) for i, s in own.items()}
            mine = {i: names[key] for i, key in keys.items() if key in names}
            if mine:
                found |= mine
                break
    return found


def _subfolders(base: Path) -> tuple[list[str], bool]:
    """Return the names of label folders, and whether ``images`` exists."""
    names = sorted(path.name for path in base.glob('*'))
    # The shortest name first: labels before labels_old.
    labels = sorted(filter(LABEL_FOLDER.fullmatch, names), key=len)
    return labels, 'images' in map(str.casefold, names)


def _label_folders(
    folder: Path, subfolders: Callable[[Path], tuple[list[str], bool]]
) -> Iterator[Path]:
    """Yield the folders that may hold the labels of images, likeliest first.

    These are ``labels`` (or ``annotations``) in place of the last ``images``
    in the path, the folder itself, and ``labels`` in it or next to it. Label
    files next to a folder ``images`` belong to that alone, not to ``masks``.
    """
    lower = list(map(str.casefold, folder.parts))
    ends = [i for i, part in enumerate(lower) if part == 'images'][-1:]
    bases = [Path(*folder.parts[:end]) for end in ends]
    for base in (*bases, folder, folder.parent):
        if base == folder:
            yield folder
        first, *rest = folder.relative_to(base).parts or ('',)
        names, has_images = subfolders(base)
        for name in names:
            if not has_images or first.casefold() == 'images':
                yield base.joinpath(name, *rest)
            if first:
                yield base.joinpath(name, first, *rest)
        if rest:
            yield from (base / name for name in names)


def is_label_file(path: str | os.PathLike) -> bool:
    """Whether the first line of a file is a class number and a box."""
    words = read_text(path, 'latin-1').lstrip().partition('\n')[0].split()
    try:
        return len([float(word) for word in words]) >= 5
    except ValueError:
        return False


def _key(stem: str) -> str:
    return plain(stem).casefold()


def read_yolo(source: Source) -> BoxTable:
    """Read the label files of all images below the folders."""
    names, found = class_names(source.ann), Collector(source)
    is_yaml = source.ann.lower().endswith(('.yaml', '.yml'))
    has_pose = is_yaml and 'kpt_shape' in read_yaml(source.ann)
    files = label_files(found.listing.paths.values())
    for name, path in found.listing.paths.items():
        file = files.get(path)
        with found.rejecting('label file that cannot be read', path):
            lines = read_text(file).splitlines() if file else []
            image = found.add_image(name, path, file or path)
            for line, text in enumerate(lines, 1):
                where = f'{file}, line {line}'
                words = text.split()[: 5 if has_pose else None]
                if image is not None and words:
                    with found.rejecting('line that is not a box', where):
                        label, box = _read_line(words, found.images[image][-1])
                        if label < 0 or (names and label >= len(names)):
                            raise ValueError(f'no class {label} in {names}')
                        found.add_box(image, line, label, box)
    if not files:
        raise DatasetError(
            f'none of the {len(found.images)} images of '
            f'{", ".join(source.images)} has a YOLO label file (NAME.txt next '
            'to it, or in labels/ next to images/)'
        )
    uses = Counter(files.values())
    shared = [path for path in files if uses[files[path]] > 1]
    found.warnings.add('image that shares its label file', *shared)
    bare = [path for path in found.listing.paths.values() if path not in files]
    found.warnings.add('image without a label file', *bare)
    if names is None:
        highest = max((row[3] for row in found.boxes), default=-1)
        names = [f'class_{number}' for number in range(highest + 1)]
        found.warnings.add(
            'data set without class names; classes are named by their numbers',
            f'expected data.yaml or one of {", ".join(NAME_FILES)}',
        )
    return found.table(names)


def _read_line(words: list[str], size: tuple) -> tuple[int, np.ndarray]:
    """Parse a line into the label and the box in pixels."""
    label, *values = map(float, words)
    points = np.reshape(values[: len(values) // 2 * 2], (-1, 2))
    is_box = len(values) in (4, 5)
    is_polygon = len(values) >= 6 and len(values) % 2 == 0
    if (
        not label.is_integer()
        or not (is_polygon or is_box)
        or np.abs(points).max() >= 2
    ):
        raise ValueError(
            'expected a class number and a box (4 numbers) or polygon, in '
            'fractions of the image size (keypoints need kpt_shape in the '
            f'YAML file), got {" ".join(words)!r:.80}'
        )
    low, high = points.min(axis=0), points.max(axis=0)
    if is_box:
        center, extent = points
        low, high = center - extent / 2, center + extent / 2
    low, high = near_whole(np.stack([low, high]) * size)
    return int(label), np.concatenate([low, high - low])
