"""Which image files a folder holds, and which of them a record means.

A record's name is never opened as a path: it is looked up among the files
that are there, so one that leads out of the folder finds nothing.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from urllib.parse import unquote

import numpy as np

from .images import image_size
from .table import BoxTable, DatasetError, Problems, Source

SUFFIXES = re.compile(r'\.(bmp|jpe?g|jfif|jpe|png|p[pg]m|tiff?|webp)$', re.I)


def walk(root: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
    """Each readable folder below a root and its files, both sorted.

    Folders are relative to the root, with ``/``; '' is the root. Hidden ones
    and those that may not be read (``lost+found``) are passed over; links are
    followed, but not in circles.
    """
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        hidden = {n for n in folders if n[0] == '.' or n == '__MACOSX'}
        folders[:] = sorted(set(folders) - hidden)
        relative = os.path.relpath(folder, root).replace(os.sep, '/')
        files = sorted(name for name in files if name[0] != '.')
        yield '' if relative == '.' else relative, files


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return SUFFIXES.search(name) is not None


def plain(name: str) -> str:
    """A name as it is compared: one form of accents, no backslashes."""
    name = unicodedata.normalize('NFC', name).replace('\\', '/')
    return re.sub(r'^(\./)+', '', name)


def last_part(name: str) -> str:
    """The file's name at the end of a path or URL."""
    name = re.sub(r'^[a-z]+://', '', plain(name))
    # Label Studio's local files: /data/local-files/?d=folder/a.jpg
    name = name.rpartition('?d=')[2]
    return unquote(name.partition('?')[0]).rpartition('/')[2]


def stem_of(name: str) -> str:
    """The last part of a name without its suffix."""
    return os.path.splitext(name.rpartition('/')[2])[0]


class Listing:
    """The images below some folders, to which names in records are relative.

    Attributes:
        paths: Path by name relative to its folder, sorted by the name.
    """

    def __init__(self, folders: Iterable[str | os.PathLike]) -> None:
        self.paths: dict[str, str] = {}
        for root in folders:
            for folder, files in walk(root):
                for name in filter(is_image, files):
                    relative = f'{folder}/{name}' if folder else name
                    path = os.path.join(root, relative)
                    if self.paths.setdefault(plain(relative), path) != path:
                        # Of two folders; by its name alone it is the first's.
                        self.paths[plain(path)] = path

    @cached_property
    def _by_last_part(self) -> dict[str, str | None]:
        return self._index(lambda name: name.rpartition('/')[2])

    @cached_property
    def _by_stem(self) -> dict[str, str | None]:
        return self._index(stem_of)

    def _index(self, key) -> dict[str, str | None]:
        """Path by part of the name; None where several files share it."""
        found: dict[str, str | None] = {}
        for name, path in self.paths.items():
            part = key(name)
            found[part] = None if part in found else path
        return found

    def find(self, name: str) -> str | None:
        """The path of the image that a record means.

        That is the file of this name, or else the only one whose name ends
        alike, as exports have the paths and URLs of other machines.
        """
        exact = self.paths.get(plain(name))
        return exact or self._by_last_part.get(last_part(name))

    def find_stem(self, stem: str) -> str | None:
        """The path of the only image of this name without its suffix."""
        return self._by_stem.get(plain(stem))

    def hint(self, name: str) -> str:
        """A word on why a name was not found, or ''."""
        part = last_part(name)
        if part in self._by_last_part:
            return f'; several files are named {part}'
        stem = stem_of(part).lower()
        alike = [n for n in self._by_last_part if stem_of(n).lower() == stem]
        return f'; there is {alike[0]}' if alike else ''


class Collector:
    """What a reader finds, one by one, and the table of it.

    Attributes:
        listing: The images that there are.
        images: (name, path, width, height, record) of each image that counts.
        rows: (image, line, label, x, y, width, height, crowd) of each box.
        errors, warnings: What is wrong, and what is odd.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.listing = source, Listing(source.images)
        self.images: list[tuple] = []
        self.rows: list[tuple] = []
        self.errors, self.warnings = Problems(), Problems()

    def add_image(self, name, path, record, size=None) -> int | None:
        """An image's index; None if it is broken, which is noted."""
        try:
            size = size or image_size(path, self.source.exif)
        except DatasetError as error:
            self.errors.add('broken image; left out', error)
            return None
        self.images.append((name, path, *size, record))
        return len(self.images) - 1

    def table(self, classes: Sequence[str]) -> BoxTable:
        """The table, whose classes and images are numbered from 0."""
        rows = np.array(self.rows, np.float64).reshape(-1, 8)
        with np.errstate(invalid='ignore', over='ignore'):
            area = rows[:, 5] * rows[:, 6]
        sizes = [image[2:4] for image in self.images]
        return BoxTable(
            source=self.source,
            classes=tuple(classes),
            category_ids=np.arange(len(classes)),
            names=[image[0] for image in self.images],
            files=[image[1] for image in self.images],
            image_ids=np.arange(len(self.images)),
            sizes=np.array(sizes, np.float64).reshape(-1, 2),
            records=[image[4] for image in self.images],
            boxes=rows[:, 3:7],
            labels=rows[:, 2].astype(np.int64),
            image=rows[:, 0].astype(np.int64),
            crowd=rows[:, 7].astype(bool),
            area=area,
            lines=rows[:, 1].astype(np.int64),
            ids=np.arange(len(rows)),
            errors=self.errors,
            warnings=self.warnings,
        )
