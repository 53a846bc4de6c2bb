"""Which image files there are, which of them a record means, and the table.

A record's name is never opened as a path: it is looked up among the files
that are there, so one that leads out of the folder finds nothing.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from urllib.parse import unquote

import numpy as np

from .images import image_size
from .table import BoxTable, DatasetError, Problems, Source

#: Words in file or folder names by the part of the data they stand for.
ROLES = {
    'train': {'train', 'training', 'trainvalminusminival'},
    'trainval': {'trainval'},
    'val': {'val', 'valid', 'validation', 'eval', 'dev', 'minival'},
    'test': {'test', 'testing'},
}
#: What serves as a split, in the order of preference; None has no role.
ORDER = {
    'train': ('train', 'trainval', None),
    'val': ('val', 'test'),
    'test': ('val', 'test', None),
}
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


def _path_of(name: str) -> str:
    """The path in a name that may be a URL."""
    name = re.sub(r'^[a-z]+://', '', plain(name))
    # Label Studio's local files: /data/local-files/?d=folder/a.jpg
    name = name.rpartition('?d=')[2]
    return unquote(name.partition('?')[0])


def _ends(path: str) -> Iterator[str]:
    """The path, the same without its first folder, and so on to its name."""
    while path:
        yield path
        path = path.partition('/')[2]


def role_of(path: str) -> str | None:
    """The split a relative path stands for; the last name that tells wins."""
    for part in reversed(plain(path).split('/')):
        words = set(re.split('[^a-z]+', part.lower()))
        roles = [role for role in ROLES if words & ROLES[role]]
        if roles:
            return roles[0] if len(roles) == 1 else None
    return None


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
    def _by_end(self) -> dict[str, str | None]:
        """Path by each end of the name, and by that without its suffix, in
        small letters; None where several files share it.
        """
        found: dict[str, str | None] = {}
        for name, path in self.paths.items():
            for whole in name, os.path.splitext(name)[0]:
                for end in _ends(whole.casefold()):
                    found[end] = None if found.get(end, path) != path else path
        return found

    def find(self, name: str) -> str | None:
        """The path of the image that a record means.

        That is the file of this name, or else the only one whose path ends
        alike, as exports have the paths and URLs of other machines, and some
        no suffixes.
        """
        ends = filter(
            self._by_end.__contains__, _ends(_path_of(name).casefold())
        )
        exact = self.paths.get(plain(name))
        return exact or self._by_end.get(next(ends, ''))

    def find_all(self, names: Iterable[str]) -> dict[str, str | None]:
        """The path of each name. Where several names end like one image, only
        the one of that very name means it.
        """
        found = {name: self.find(name) for name in names}
        uses = Counter(found.values())
        return {
            name: path
            if uses[path] == 1 or plain(name) in self.paths
            else None
            for name, path in found.items()
        }


class Collector:
    """What a reader finds, one by one, and the table of it.

    Attributes:
        listing: The images that there are.
        images: (id, name, path, record, split, width, height) of each image.
        boxes: (image, line, id, label, crowd, area, x, y, width, height) of
            each box.
        errors, warnings: What is wrong, and what is odd.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.listing = source, Listing(source.images)
        self.images: list[tuple] = []
        self.boxes: list[tuple] = []
        self.errors, self.warnings = Problems(), Problems()

    def add_image(
        self,
        name: str,
        path: str,
        record: str,
        size: Sequence[float] | None = None,
        number: int | None = None,
        split: str | None = None,
    ) -> int | None:
        """An image's index; None if its size cannot be read from the file
        where the annotations lack it, which is noted.
        """
        try:
            size = size or image_size(path, self.source.exif)
        except DatasetError as error:
            self.errors.add('broken image; left out', error)
            return None
        index = len(self.images)
        number = index if number is None else number
        split = split or self._split_of(path)
        self.images.append((number, name, path, record, split, *size))
        return index

    def _split_of(self, path: str) -> str | None:
        """What the folder says that an image is for."""
        for root in self.source.images:
            if path.startswith(os.path.join(root, '')):
                return role_of(os.path.relpath(os.path.dirname(path), root))
        return None

    def add_box(
        self, image, line, label, box, crowd=False, area=np.nan, number=None
    ) -> None:
        """Add a box; without an area it is that of the box."""
        number = -1 if number is None else number
        self.boxes.append((image, line, number, label, crowd, area, *box))

    def table(
        self, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> BoxTable:
        """The table; by default classes are numbered from 0."""
        columns = [list(c) for c in zip(*self.images, strict=True)] or [[]] * 7
        numbers, names, files, records, splits, *sizes = columns
        rows = np.array(self.boxes, np.float64).reshape(-1, 10)
        whole = rows[:, :5].astype(np.int64).T
        boxes, area = rows[:, 6:], rows[:, 5]
        with np.errstate(invalid='ignore', over='ignore'):
            area = np.where(area > 0, area, boxes[:, 2] * boxes[:, 3])
        alike = Counter(map(str.casefold, classes))
        alike = [n for n in classes if alike[n.casefold()] > 1]
        kind = 'class whose name differs from another only in case'
        self.warnings.add(kind, *alike)
        ids = range(len(classes)) if category_ids is None else category_ids
        return BoxTable(
            source=self.source,
            classes=tuple(classes),
            category_ids=np.array(ids, np.int64),
            names=names,
            files=files,
            records=records,
            splits=splits,
            image_ids=np.array(numbers, np.int64),
            sizes=np.array(sizes, np.float64).T,
            boxes=boxes,
            area=area,
            image=whole[0],
            lines=whole[1],
            ids=whole[2],
            labels=whole[3],
            crowd=whole[4] > 0,
            errors=self.errors,
            warnings=self.warnings,
        )
