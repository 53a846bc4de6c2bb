"""Checking a folder of ImageNet's layout before a run reads it.

``<split>/<class>/...`` holds the images of a class, in folders of any depth;
the class's label is its place in the sorted names.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from .images import broken
from .listing import walk
from .reading import DECODED_BYTES
from .table import DatasetError, Problems

#: What mmpretrain's data sets take for an image.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
SPLITS = ('train', 'val')
_LAYOUT = '<split>/<class>/<image>, such as train/n01440764/a.JPEG'


def imagenet_synsets() -> tuple[str, ...]:
    """The 1000 classes of ILSVRC 2012 to 2017 in the order of the labels."""
    text = files(__package__).joinpath('imagenet_synsets.txt').read_text()
    return tuple(text.split())


def _read(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Paths of the images, and names of other files, by class."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for below, names in walk(folder):
        label = below.partition('/')[0]
        if not label:
            continue
        images, others = found.setdefault(label, ([], []))
        for name in names:
            if name.lower().endswith(SUFFIXES):
                images.append(os.path.join(folder, below, name))
            else:
                others.append(name)
    return found


def check_class_folders(
    folders: Sequence[str | os.PathLike],
    classes: Sequence[str] | None = None,
    decode: bool | None = None,
    progress: Callable[[int], Any] | None = None,
) -> tuple[str, ...]:
    """Check that every split has the same classes and images of each.

    Args:
        folders: One for each split; the first one is that of training.
        classes: What they must have; None takes the first folder's.
        decode: Decode every image; None does so where all of them together
            have few bytes. What is not decoded here stops a run, with its
            name, when it is read.
        progress: Called with the number of images decoded since last time.

    Returns:
        The classes in the order of their labels.

    Raises:
        DatasetError: A folder is missing or has no class, a class is missing,
            unexpected or empty, an image is broken; names a few of each.
    """
    splits = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DatasetError(f'{folder} is not a folder; expected {_LAYOUT}')
        splits[folder] = _read(folder)
        if not splits[folder]:
            raise DatasetError(
                f'{folder} has no class folder; expected {_LAYOUT}'
            )
    first = next(iter(splits))
    names = tuple(sorted(classes or splits[first]))
    decides = f'{len(names)} classes expected' if classes else f'as in {first}'
    problems = Problems()
    paths = []
    for folder, found in splits.items():
        for kind, which in (
            ('missing', set(names) - set(found)),
            ('unexpected', set(found) - set(names)),
        ):
            for name in sorted(which):
                problems.add(
                    f'{kind} class folder in {folder} ({decides})', name
                )
        for name, (images, others) in found.items():
            if not images:
                hint = f', only {others[0]} and the like' if others else ''
                problems.add(
                    f'class without an image ({", ".join(SUFFIXES)})',
                    f'{folder / name}{hint}',
                )
            for path in images:
                if os.path.getsize(path):
                    paths.append(path)
                else:
                    problems.add('image of 0 bytes', path)
    if decode is None:
        decode = sum(map(os.path.getsize, paths)) <= DECODED_BYTES
    if decode:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for wrong in pool.map(broken, paths):
                if wrong:
                    problems.add('broken image', wrong)
                if progress:
                    progress(1)
    if problems:
        where = ', '.join(map(str, splits))
        raise DatasetError(f'{where} cannot be used:{problems}')
    return names
