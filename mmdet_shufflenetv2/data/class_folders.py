"""Checking a folder of ImageNet's layout before a run reads it.

    python -m mmdet_shufflenetv2.data.class_folders data/imagenet
    python -m mmdet_shufflenetv2.data.class_folders my_pictures --any

``<split>/<class>/...`` holds the images of a class, in folders of any depth;
the class's label is its place in the sorted names. The command decodes every
image; a run does so before it starts only where there are few.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from .check_report import Problems
from .coco_stream import DatasetError
from .loading import decode_image

#: What mmpretrain's data sets take for an image.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
SPLITS = ('train', 'val')
#: Up to as many bytes are decoded before a run starts.
DECODED_BYTES = 64 << 20
_LAYOUT = '<split>/<class>/<image>, such as train/n01440764/a.JPEG'


class ImageFile(NamedTuple):
    """``size`` in bytes."""

    path: str
    size: int


def imagenet_synsets() -> tuple[str, ...]:
    """The 1000 classes of ILSVRC 2012 to 2017 in the order of the labels."""
    text = files(__package__).joinpath('imagenet_synsets.txt').read_text()
    return tuple(text.split())


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _files(folder: Path) -> Iterator[os.DirEntry]:
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(Path(entry.path))
        elif not entry.name.startswith('.'):
            yield entry


class _Split:
    """The classes of one split, and the images of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: dict[str, list[ImageFile]] = {}
        self.others: dict[str, list[str]] = {}
        for entry in _entries(folder):
            if entry.is_dir():
                self._add(entry)

    def _add(self, entry: os.DirEntry) -> None:
        images = self.images[entry.name] = []
        others = self.others[entry.name] = []
        for file in _files(Path(entry.path)):
            if file.name.lower().endswith(SUFFIXES):
                images.append(ImageFile(file.path, file.stat().st_size))
            else:
                others.append(file.name)


def _compare_classes(
    split: _Split, classes: Sequence[str], source: str, problems: Problems
) -> None:
    for kind, names in (
        ('missing', set(classes) - set(split.images)),
        ('unexpected', set(split.images) - set(classes)),
    ):
        for name in sorted(names):
            problems.add(
                f'{kind} class folder in {split.folder} ({source})', name
            )


def _find_empty(split: _Split, problems: Problems) -> None:
    for name, images in split.images.items():
        if not images:
            others = split.others[name]
            hint = f', only {others[0]} and the like' if others else ''
            problems.add(
                f'class without an image ({", ".join(SUFFIXES)})',
                f'{split.folder / name}{hint}',
            )
        for image in images:
            if not image.size:
                problems.add('image of 0 bytes', image.path)


def _undecodable(path: str) -> str | None:
    """What is wrong with an image file, if anything."""
    try:
        decode_image(Path(path).read_bytes(), path)
    except (OSError, DatasetError) as error:
        return str(error)
    return None


def _decode_all(
    paths: Sequence[str],
    problems: Problems,
    progress: Callable[[int], Any] | None,
) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for broken in pool.map(_undecodable, paths):
            if broken:
                problems.add('broken image', broken)
            if progress:
                progress(1)


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
            have at most 64 MB. What is not decoded here stops a run, with
            its name, when it is read.
        progress: Called with the number of images decoded since last time.

    Returns:
        The classes in the order of their labels.

    Raises:
        DatasetError: A folder is missing or has no class, a class is missing,
            unexpected or empty, an image is broken; names a few of each.
    """
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DatasetError(f'{folder} is no folder; expected is {_LAYOUT}')
    splits = [_Split(Path(folder)) for folder in folders]
    for split in splits:
        if not split.images:
            raise DatasetError(
                f'{split.folder} has no class folder; expected is {_LAYOUT}'
            )
    source = f'{len(classes)} classes expected' if classes else None
    names = tuple(sorted(classes or splits[0].images))
    problems = Problems()
    for split in splits:
        reference = source or f'{splits[0].folder} decides'
        _compare_classes(split, names, reference, problems)
        _find_empty(split, problems)
    images = [
        image
        for split in splits
        for found in split.images.values()
        for image in found
        if image.size
    ]
    if decode is None:
        decode = sum(image.size for image in images) <= DECODED_BYTES
    if decode:
        _decode_all([image.path for image in images], problems, progress)
    if problems:
        where = ', '.join(str(split.folder) for split in splits)
        raise DatasetError(f'{where} cannot be used:{problems}')
    return names


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data_root', help='folder that holds train/ and val/')
    parser.add_argument(
        '--any',
        action='store_true',
        help="take any classes instead of ImageNet's 1000",
    )
    options = parser.parse_args(args)
    folders = [Path(options.data_root) / split for split in SPLITS]
    classes = None if options.any else imagenet_synsets()
    try:
        with tqdm(desc='decoding', unit='image') as bar:
            found = check_class_folders(folders, classes, True, bar.update)
    except DatasetError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    print(f'{options.data_root}: {len(found)} classes, all images readable')


if __name__ == '__main__':
    main()
