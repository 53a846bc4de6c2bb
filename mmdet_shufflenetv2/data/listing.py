"""Which image files there are, which of them a record means, and the table.

A record's name is never opened as a path: it is looked up among the files
that are there, so one that leads out of the folder finds nothing.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from operator import and_, eq
from urllib.parse import unquote

import numpy as np

from .images import image_size
from .table import (
    BOX_ROW,
    IMAGE_ROW,
    BoxTable,
    DatasetError,
    Problems,
    Source,
)

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
        self.folders = tuple(folders)
        self.paths: dict[str, str] = {}
        # A folder may lie in another one.
        known: set[str] = set()
        for root in self.folders:
            for folder, files in walk(root):
                for name in filter(is_image, files):
                    relative = os.path.join(folder, name)
                    path = os.path.join(root, relative)
                    if path in known:
                        continue
                    known.add(path)
                    if self.paths.setdefault(plain(relative), path) != path:
                        # Of two folders; by its name alone it is the first's.
                        self.paths[plain(path)] = path

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """Names by their last part, and by that without its suffix, in small
        letters.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.paths:
            last = name.rpartition('/')[2].casefold()
            for end in last, os.path.splitext(last)[0]:
                found[end].append(name)
        return found

    def find(self, name: str, record: str) -> str | None:
        """The path of the image that a record means; None where that is not
        clear.

        That is the file of this name where the record is not among the
        images. Else, of those whose names end alike (exports have the paths
        and URLs of other machines, and some no suffixes), it is the one with
        the most of its folders, then of the split that the path of the record
        tells, then the nearest to it.
        """
        exact = self.paths.get(plain(name))
        url = re.sub('^[a-z]+://', '', plain(name))
        # Label Studio's local files: /data/local-files/?d=folder/a.jpg
        url = unquote(url.rpartition('?d=')[2].partition('?')[0])
        name = plain(name) if exact else url
        *folders, last = name.casefold().split('/')
        found = self._by_end.get(last, ())
        if len(found) < 2:
            return self.paths[found[0]] if found else None
        place = os.path.relpath(record, self.folders[0]).replace(os.sep, '/')
        *here, _ = place.split('/')
        role = role_of(place)
        if exact and here[:1] == ['..']:
            return exact

        def fit(name: str) -> tuple[int, int, int]:
            there = name.split('/')[:-1]
            of, shared = role_of('/'.join(there)), _shared(here, there)
            same = [folder.casefold() for folder in there]
            return (
                _shared(folders[::-1], same[::-1]),
                2 if of == role else of is None,
                2 * shared - len(there),
            )

        *_, second, best = sorted(found, key=fit)
        return exact if fit(second) == fit(best) else self.paths[best]

    def find_all(
        self, names: Iterable[str], record: str
    ) -> dict[str, str | None]:
        """The path of each name. Where several names end like one image, only
        the one of that very name means it.
        """
        found = {name: self.find(name, record) for name in names}
        uses = Counter(found.values())
        for name, path in found.items():
            is_whole = f'/{path}'.endswith(f'/{plain(name)}')
            if uses[path] > 1 and not is_whole:
                found[name] = None
        return found


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many items at the beginning are the same."""
    return sum(accumulate(map(eq, one, other), and_))


class Collector:
    """What a reader finds, one by one, and the table of it.

    Attributes:
        listing: The images that there are.
        images, boxes: As in ``IMAGE_ROW`` and ``BOX_ROW``.
        errors, warnings: What is wrong, and what is odd.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.listing = source, Listing(source.images)
        #: Whether the annotations are of one split, wherever images lie.
        self.has_role = bool(
            source.ann
            and source.images
            and role_of(os.path.relpath(source.ann, source.images[0]))
        )
        self.images: list[tuple] = []
        self.boxes: list[tuple] = []
        self.errors, self.warnings = Problems(), Problems()

    @contextmanager
    def rejecting(self, kind: str, where: str) -> Iterator[None]:
        """Where this fails, a record is left out and noted."""
        try:
            yield
        except Exception as error:  # Of any parser.
            self.errors.add(kind, f'{where}: {error}')

    def no_image(self, where: str) -> None:
        """Note a record whose image is not there."""
        self.errors.add(
            f'image not found in {", ".join(self.source.images)}, or one of '
            'several (--train-img and --val-img name a folder)',
            where,
        )

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
        for root in () if split or self.has_role else self.source.images:
            if path.startswith(os.path.join(root, '')):
                split = role_of(os.path.relpath(os.path.dirname(path), root))
                break
        index = len(self.images)
        number = index if number is None else number
        self.images.append((number, name, path, record, split, tuple(size)))
        return index

    def add_box(
        self, image, line, label, box, crowd=False, area=np.nan, number=None
    ) -> None:
        """Add a box; without an area it is that of the box."""
        number = -1 if number is None else number
        row = image, line, number, label, crowd, area, tuple(box)
        self.boxes.append(row)

    def table(
        self, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> BoxTable:
        """The table; by default classes are numbered from 0."""
        uses = Counter(map(str.casefold, classes))
        self.warnings.add(
            'class whose name differs from another only in case',
            *(name for name in classes if uses[name.casefold()] > 1),
        )
        images = np.array(self.images, IMAGE_ROW)
        rows = np.array(self.boxes, BOX_ROW)
        with np.errstate(invalid='ignore', over='ignore'):
            areas = rows['boxes'][:, 2] * rows['boxes'][:, 3]
            rows['area'] = np.where(rows['area'] > 0, rows['area'], areas)
        columns = {name: images[name] for name in IMAGE_ROW.names}
        for name, column in columns.items():
            if column.dtype == object:
                columns[name] = column.tolist()
        ids = range(len(classes)) if category_ids is None else category_ids
        return BoxTable(
            self.source,
            tuple(classes),
            np.array(ids, np.int64),
            **columns,
            **{name: rows[name] for name in BOX_ROW.names},
            errors=self.errors,
            warnings=self.warnings,
        )
