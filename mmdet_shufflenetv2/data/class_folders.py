"""Checking folders in ImageNet's layout before a run.

``<split>/<class>/`` contains the images of a class, in folders of any depth.
Labels follow the sorted class names.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

from .images import broken
from .listing import SUFFIXES, is_image, walk
from .reading import DECODED_BYTES
from .table import DatasetError, Problems

SPLITS = ('train', 'val')


def imagenet_synsets() -> tuple[str, ...]:
    """Return the 1000 classes of ILSVRC 2012 to 2017 in label order."""
    text = files(__package__).joinpath('imagenet_synsets.txt').read_text()
    return tuple(text.split())


def check_class_folders(
    folders: Sequence[str | os.PathLike],
    classes: Sequence[str] | None = None,
    decode: bool | None = None,
    progress: Callable[[int], Any] = lambda count: None,
) -> tuple[str, ...]:
    """Raise ``DatasetError`` unless all splits have images of all classes.

    Args:
        folders: The folder of each split, training first.
        classes: The expected classes; None expects those of the first folder.
        decode: Decode all images; None does so up to ``DECODED_BYTES``.
        progress: Called with the number of images decoded since the last call.

    Returns:
        The classes in label order.
    """
    problems, paths, names = Problems(), set(), set(classes or ())
    for folder in folders:
        found: dict[str, list[str]] = {}
        for subfolder, file_names in walk(folder):
            images = found.setdefault(subfolder.partition('/')[0], [])
            images += [
                os.path.join(folder, subfolder, name)
                for name in filter(is_image, file_names)
            ]
        found.pop('', None)
        if not found:
            raise DatasetError(
                f'{folder} has no class folder; expected <split>/<class>/'
                '<image>, such as train/n01440764/a.JPEG'
            )
        names = names or set(found)
        where = f'class folder in {folder} ({len(names)} classes expected)'
        problems.add(f'missing {where}', *sorted(names - set(found)))
        problems.add(f'unexpected {where}', *sorted(set(found) - names))
        problems.add(
            f'class without images ({", ".join(SUFFIXES)})',
            *(f'{folder}/{name}' for name in found if not found[name]),
        )
        paths.update(*found.values())
    empty = {path for path in paths if not os.path.getsize(path)}
    problems.add('image of 0 bytes', *sorted(empty))
    if decode is None:
        decode = sum(map(os.path.getsize, paths)) <= DECODED_BYTES
    if decode:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for wrong in pool.map(broken, sorted(paths - empty)):
                problems.add('broken image', *filter(None, [wrong]))
                progress(1)
    if problems:
        where = ', '.join(map(str, folders))
        raise DatasetError(f'{where} cannot be used:{problems}')
    return tuple(sorted(names))
