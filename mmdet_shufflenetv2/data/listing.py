"""Listing image files, matching records to them, collecting the table.

A name in a record is never opened as a path. It is looked up among the listed
files, so a name that points outside the folder matches nothing.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
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

#: Words in file or folder names that denote each split.
ROLES = {
    'train': {'train', 'training', 'trainvalminusminival'},
    'trainval': {'trainval'},
    'val': {'val', 'valid', 'validation', 'eval', 'dev', 'minival'},
    'test': {'test', 'testing'},
}
#: Which splits may serve as each one, best first; None is data of no split.
ORDER = {
    'train': ('train', 'trainval', None),
    'val': ('val', 'test'),
    'test': ('val', 'test', None),
}
#: Suffixes of images.
SUFFIXES = (
    *('.bmp', '.jfif', '.jpe', '.jpeg', '.jpg', '.pgm', '.png', '.ppm'),
    *('.tif', '.tiff', '.webp'),
)


def walk(root: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
    """Yield each readable folder below a root and its files, both sorted.

    Folders are relative to the root, with ``/``; '' is the root. Hidden and
    unreadable folders (``lost+found``) are skipped. Links are followed, but
    no folder is visited twice.
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
    """Return whether a file name has the suffix of an image."""
    return name.lower().endswith(SUFFIXES)


def plain(name: str) -> str:
    """Normalise a name for comparison: Unicode form, slashes, no ``./``."""
    name = unicodedata.normalize('NFC', name).replace('\\', '/')
    return re.sub(r'^(\./)+', '', name)


@lru_cache(1 << 16)
def role_of(path: str) -> str | None:
    """Return the split named last in a relative path; None if unclear."""
    for part in reversed(plain(path).split('/')):
        words = set(re.split('[^a-z]+', part.lower()))
        roles = [role for role in ROLES if words & ROLES[role]]
        if roles:
            return roles[0] if len(roles) == 1 else None
    return None


class Listing:
    """The images below one or several folders, by name.

    Attributes:
        paths: Path of each image by its name relative to its folder, sorted.
    """

    def __init__(self, folders: Iterable[str | os.PathLike]) -> None:
        self.folders = tuple(folders)
        self.paths: dict[str, str] = {}
        known: set[str] = set()  # because one folder may contain another
        for root in self.folders:
            for folder, files in walk(root):
                for name in filter(is_image, files):
                    relative = os.path.join(folder, name)
                    # normpath: Windows would mix the two slashes.
                    path = os.path.join(root, os.path.normpath(relative))
                    if path in known:
                        continue
                    known.add(path)
                    if self.paths.setdefault(plain(relative), path) != path:
                        # An earlier folder has this relative name already.
                        self.paths[plain(path)] = path

    @cached_property
    def _by_base_name(self) -> dict[str, list[str]]:
        """Names by their lower-case base name, with and without suffix."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.paths:
            base = name.rpartition('/')[2].casefold()
            for key in base, os.path.splitext(base)[0]:
                found[key].append(name)
        return found

    def find(self, name: str, record: str) -> str | None:
        """Find the image that file ``record`` calls ``name``; None if unclear.

        If that file lies outside the image folder, an image of exactly this
        name wins. Otherwise all images with the same base name are candidates,
        since exports contain paths and URLs of other machines, some without
        suffixes. They are ranked by the number of folders shared with the
        name, then by the split of the file, then by their distance to it, then
        by a folder called images; if the best two tie, the exact name decides.
        """
        exact = self.paths.get(plain(name))
        url = re.sub('^[a-z]+://', '', plain(name))
        # Label Studio's local files: /data/local-files/?d=folder/a.jpg
        url = url.rpartition('?d=')[2]
        literal = url.rpartition('/')[2].casefold()
        url = unquote(url.partition('?')[0])
        *folders, base = (plain(name) if exact else url).casefold().split('/')
        by_base = self._by_base_name
        found = by_base.get(literal) or by_base.get(base, ())
        if len(found) < 2:
            return self.paths[found[0]] if found else None
        place = os.path.relpath(record, self.folders[0]).replace(os.sep, '/')
        *here, _ = place.split('/')
        role = role_of(place)
        if exact and here[:1] == ['..']:
            return exact

        def fit(candidate: str) -> tuple[int, int, int, bool]:
            there = candidate.split('/')[:-1]
            own_role = role_of('/'.join(there))
            same = [folder.casefold() for folder in there]
            return (
                _shared(folders[::-1], same[::-1]),
                2 if own_role == role else own_role is None,
                2 * _shared(here, there) - len(there),
                not {'images', 'jpegimages'}.isdisjoint(same),
            )

        *_, second, best = sorted(found, key=fit)
        return exact if fit(second) == fit(best) else self.paths[best]

    def find_all(
        self, names: Iterable[str], record: str
    ) -> dict[str, str | None]:
        """Find all names; drop the inexact ones that match the same image."""
        found = {name: self.find(name, record) for name in names}
        uses = Counter(filter(None, found.values()))
        shared = [name for name, path in found.items() if uses[path] > 1]
        for name in shared:
            if not f'/{plain(found[name])}'.endswith(f'/{plain(name)}'):
                found[name] = None
        return found


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the common prefix of two sequences."""
    return sum(accumulate(map(eq, one, other), and_))


class Collector:
    """Collects the images and boxes that a reader finds into a table.

    Attributes:
        listing: The image files.
        images, boxes: Rows of ``IMAGE_ROW`` and ``BOX_ROW``.
        errors, warnings: Records left out, and odd records that are kept.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.listing = source, Listing(source.images)
        #: The split that the annotation path names; it overrides folders.
        self.role = None
        if source.ann and source.images:
            self.role = role_of(os.path.relpath(source.ann, source.images[0]))
        self.images: list[tuple] = []
        self.boxes: list[tuple] = []
        self.errors, self.warnings = Problems(), Problems()

    @contextmanager
    def rejecting(self, kind: str, where: str) -> Iterator[None]:
        """Record any exception as an error and leave the record out."""
        try:
            yield
        except Exception as error:  # Parsers raise errors of many types.
            self.errors.add(kind, f'{where}: {error}')

    def no_image(self, where: str) -> None:
        """Record that an image is missing or ambiguous."""
        self.errors.add(
            f'image not found in {", ".join(self.source.images)}, or '
            'ambiguous; choose a folder with --train-img or --val-img',
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
        """Add an image and return its index.

        Without ``size`` it is read from the file. If that fails, an error is
        recorded and None returned.
        """
        try:
            size = size or image_size(path, self.source.exif)
        except DatasetError as error:
            self.errors.add('broken image; left out', error)
            return None
        roots = [os.path.join(root, '') for root in self.source.images]
        root = next(filter(path.startswith, roots), path)
        folder = role_of(os.path.dirname(path[len(root) :]))
        if self.role is None:
            split = split or folder
        elif (
            len({self.role, folder} - {None, 'trainval'}) > 1
            # The name itself does not say so.
            and plain(name) not in self.listing.paths
        ):
            self.warnings.add(
                'image found in a folder of another split',
                f'{record}: {name!r}, using {path}',
            )
        index = len(self.images)
        number = index if number is None else number
        self.images.append((number, name, path, record, split, tuple(size)))
        return index

    def add_box(
        self, image, line, label, box, crowd=False, area=np.nan, number=None
    ) -> None:
        """Add a box, whose ``area`` defaults to that of the box."""
        number = -1 if number is None else number
        row = image, line, number, label, crowd, area, tuple(box)
        self.boxes.append(row)

    def table(
        self, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ) -> BoxTable:
        """Build the table; ``category_ids`` default to 0, 1, ..."""
        uses = Counter(map(str.casefold, {*classes}))
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
