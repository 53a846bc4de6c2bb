"""Which image files a folder holds, and which of them a record means.

A record's name is never opened as a path: it is looked up among the files
that are there, so one that leads out of the folder finds nothing.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from urllib.parse import unquote

SUFFIXES = [
    '.bmp',
    '.jpeg',
    '.jpg',
    '.jfif',
    '.jpe',
    '.png',
    '.ppm',
    '.pgm',
    '.tif',
    '.tiff',
    '.webp',
]


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
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.') and name != '__MACOSX'
        )
        relative = os.path.relpath(folder, root).replace(os.sep, '/')
        yield (
            '' if relative == '.' else relative,
            sorted(name for name in files if not name.startswith('.')),
        )


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def plain(name: str) -> str:
    """A name as it is compared: one form of accents, no backslashes."""
    name = unicodedata.normalize('NFC', name).replace('\\', '/')
    while name.startswith('./'):
        name = name[2:]
    return name


def last_part(name: str) -> str:
    """The file's name at the end of a path or URL."""
    name = re.sub(r'^[a-z]+://', '', plain(name))
    # Label Studio's local files: /data/local-files/?d=folder/a.jpg
    name = name.rpartition('?d=')[2]
    return unquote(name.partition('?')[0]).rpartition('/')[2]


class Listing:
    """The images below some folders.

    Args:
        folders: Names in records are relative to one of them.
    """

    def __init__(self, folders: Iterable[str | os.PathLike]) -> None:
        self.folders = [os.fspath(folder) for folder in folders]
        #: Path by name relative to its folder, sorted by the name.
        self.paths: dict[str, str] = {}
        for root in self.folders:
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
        return self._index(
            lambda name: os.path.splitext(name.rpartition('/')[2])[0]
        )

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
        stem = os.path.splitext(part)[0]
        for found in self._by_last_part:
            if found.lower() == part.lower():
                return f'; there is {found}, in other letters'
            if os.path.splitext(found)[0] == stem:
                return f'; there is {found}'
        return ''
