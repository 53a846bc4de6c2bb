"""The table of boxes into which every annotation format is read.

Legend: N images, K boxes, C classes; a box is (x, y, width, height) in pixels.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError

#: How many records of each kind a message shows.
MAX_EXAMPLES = 5
#: A detector of stride 16 finds hardly any box smaller than this.
SMALL_BOX_PX = 8
#: Edges closer than this to a whole pixel are rounded to it.
WHOLE_PX = 0.01


class DatasetError(UserError):
    """An unusable data set; the message names file, record and remedy."""


class Source(NamedTuple):
    """Where the boxes of one split are read from.

    Args:
        format: 'COCO', 'YOLO', 'VOC', 'CSV', or 'images' if without boxes.
        ann: The annotation file or folder.
        images: The folders that image names are relative to.
        image_list: Text files that list the images of this split; needed if
            ``ann`` covers other splits too.
        exif: 'apply' if boxes refer to images turned as their EXIF data says,
            'ignore' if they refer to the stored pixels.
        part: If one source is divided into training and validation: 'train'
            or 'val', the fraction held out for 'val' (None if files or folders
            assign each image), and the seed.
    """

    format: str
    ann: str
    images: tuple[str, ...]
    image_list: tuple[str, ...] = ()
    exif: str = 'apply'
    part: tuple[str, float | None, int] | None = None


class Problems:
    """Faulty records by kind: their number and the first few of them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        #: (image file, its height and width, box) of examples to draw.
        self.places: dict[str, list[tuple[str, tuple, list[float]]]] = {}

    def add(
        self, kind: str, *records: object, describe: Callable = str
    ) -> None:
        """Count records; ``describe`` is called for the first few only."""
        if records:
            shown = self.examples.setdefault(kind, [])
            shown += map(describe, records[: MAX_EXAMPLES - len(shown)])
            self.counts[kind] = self.counts.get(kind, 0) + len(records)

    def texts(self) -> list[str]:
        """Format each kind, with its count and examples, to follow a title."""
        texts = []
        for kind, shown in self.examples.items():
            lines = [f'{self.counts[kind]} x {kind}:', *shown]
            more = self.counts[kind] - len(shown)
            lines += [f'... and {more} more'] if more else []
            texts.append('\n  ' + '\n      '.join(lines))
        return texts

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return ''.join(self.texts())


def _columns(names: str, formats: str) -> np.dtype:
    return np.dtype(dict(names=names.split(), formats=formats.split()))


#: The fields that readers collect for each image and each box.
IMAGE_ROW = _columns(
    'image_ids names files records splits sizes', 'i8 O O O O 2f8'
)
BOX_ROW = _columns(
    'image lines ids labels crowd area boxes', 'i8 i8 i8 i8 ? f8 4f8'
)


@dataclass
class BoxTable:
    """Images and boxes as columns, and the problems found in reading them."""

    source: Source
    classes: tuple[str, ...]  # names in label order
    category_ids: np.ndarray  # id of each class in the file, int64 (C,)
    image_ids: np.ndarray  # int64 (N,)
    names: list[str]  # name of each image in the annotations
    files: list[str]  # path of each image; '' if images are not looked up
    records: list[str]  # file from which the boxes of each image were read
    splits: list[str | None]  # split according to line or folder
    sizes: np.ndarray  # width and height, float64 (N, 2)
    image: np.ndarray  # image index of each box, int64 (K,)
    lines: np.ndarray  # position of the box in its file, int64 (K,)
    ids: np.ndarray  # annotation id, -1 if there is none, int64 (K,)
    labels: np.ndarray  # int64 (K,)
    crowd: np.ndarray  # ignored in training and evaluation, bool (K,)
    area: np.ndarray  # area of the object, not of its box, float64 (K,)
    boxes: np.ndarray  # float64 (K, 4)
    errors: Problems = field(default_factory=Problems)  # left out or clipped
    warnings: Problems = field(default_factory=Problems)  # odd, but kept

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """File, format and image lists, for messages."""
        lists = ', '.join(self.source.image_list)
        part = f', images of {lists}' if lists else ''
        return f'{self.source.ann} ({self.source.format}{part})'

    def shape(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image."""
        width, height = self.sizes[index].astype(int).tolist()
        return height, width

    def describe_image(self, index: int) -> str:
        """Describe an image by name and size."""
        width, height = self.sizes[index]
        return f'{self.names[index]!r}, {width:g} x {height:g}'

    def describe_box(self, index: int) -> str:
        """Describe a box by record, image and coordinates."""
        image, line = self.image[index], self.lines[index]
        where = f'{self.records[image]}, line or object {line}'
        if self.source.format == 'COCO':
            where = f'annotations[{line}] (id {self.ids[index]})'
        box = self.boxes[index].round(4).tolist()
        return f'{where}, image {self.describe_image(image)}: box {box}'

    def keep_boxes(self, keep: np.ndarray) -> 'BoxTable':
        """Return a table of the selected boxes; ``keep`` is bool (K,)."""
        rows = {name: getattr(self, name)[keep] for name in BOX_ROW.names}
        return replace(self, **rows)

    def keep_images(self, keep: np.ndarray) -> 'BoxTable':
        """Return a table of the selected images; ``keep`` is bool (N,)."""
        table, kept = self.keep_boxes(keep[self.image]), {}
        for name in IMAGE_ROW.names:
            values = getattr(self, name)
            some = list(compress(values, keep))
            kept[name] = some if isinstance(values, list) else values[keep]
        image = (np.cumsum(keep) - 1)[table.image]
        return replace(table, image=image, **kept)

    def with_classes(self, classes: Sequence[str]) -> 'BoxTable':
        """Return a table of other classes, which are matched by name.

        Boxes of all other classes are dropped. A class that the file lacks
        gets an unused category id.
        """
        own = dict(zip(self.classes, self.category_ids.tolist(), strict=True))
        free = 1 + max(self.category_ids, default=0)
        ids = [own.get(n, free + i) for i, n in enumerate(classes)]
        new = {name: label for label, name in enumerate(classes)}
        labels = np.array([new.get(n, -1) for n in self.classes], np.int64)
        table = replace(
            self,
            classes=tuple(classes),
            category_ids=np.array(ids, np.int64),
            labels=labels[self.labels],
        )
        return table.keep_boxes(table.labels >= 0)

    def digest(self) -> str:
        """Return a digest of the classes, the image names and the boxes.

        It covers no folders, so moving a data set does not change it.
        """
        names = [os.path.basename(name) for name in self.names]
        digest = hashlib.sha256(json.dumps([self.classes, names]).encode())
        for column in self.image, self.labels, self.crowd, self.boxes:
            digest.update(column.tobytes())
        return digest.hexdigest()

    def counts(self) -> np.ndarray:
        """Return the number of boxes of each class, int64 (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def learned(self) -> np.ndarray:
        """Return which boxes are large enough for MMDetection, bool (K,)."""
        return (self.boxes[:, 2:] >= 1).all(axis=1)

    def image_sizes(self) -> np.ndarray:
        """Return width and height of each image in pixels, float64 (N, 2)."""
        return self.sizes

    def box_sizes(self, scale: tuple[int, int] | None = None) -> np.ndarray:
        """Return the square root of each box's area in pixels, float64 (K,).

        Args:
            scale: If given, the sizes are those after mmdet's
                ``Resize(scale, keep_ratio=True)``.
        """
        sizes = np.sqrt(self.boxes[:, 2:].prod(axis=1))
        if scale is None:
            return sizes
        factors = np.sort(scale) / np.sort(self.sizes, axis=1)
        return sizes * factors.min(axis=1)[self.image]

    def to_coco(self) -> dict:
        """Return the content of a COCO file for evaluation.

        Annotation ids start at 1: pycocotools ignores matches with id 0.
        """

        def rows(names: str, *columns: Iterable) -> list[dict]:
            keys = names.split()
            values = (np.array(column).tolist() for column in columns)
            return [
                dict(zip(keys, row, strict=True))
                for row in zip(*values, strict=True)
            ]

        images = rows(
            'id file_name width height',
            *(self.image_ids, self.names, *self.sizes.astype(int).T),
        )
        annotations = rows(
            'id image_id category_id bbox area iscrowd',
            range(1, len(self.boxes) + 1),
            self.image_ids[self.image],
            self.category_ids[self.labels],
            *(self.boxes, self.area, self.crowd.astype(int)),
        )
        return dict(
            images=images,
            annotations=annotations,
            categories=rows('id name', self.category_ids, self.classes),
        )


def read_text(path: str | Path, fallback: str | None = None) -> str:
    """Read a file; see :func:`decode_text`.

    Raises:
        DatasetError: The file cannot be read or decoded.
    """
    try:
        return decode_text(Path(path).read_bytes(), fallback)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, 'strerror', None) or error
        raise DatasetError(f'{path} cannot be read: {why}') from error


def decode_text(content: bytes, fallback: str | None = None) -> str:
    """Decode UTF-16 with a byte-order mark, UTF-8, or else ``fallback``."""
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        return content.decode('utf-16')
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError:
        if fallback is None:
            raise
        return content.decode(fallback)


def near_whole(edges: np.ndarray) -> np.ndarray:
    """Round edges to the pixel grid if they are within ``WHOLE_PX`` of it.

    This undoes the rounding of relative coordinates written with few digits.
    """
    whole = np.round(edges)
    return np.where(np.abs(edges - whole) <= WHOLE_PX, whole, edges)


def box_around(points: Iterable) -> list[float]:
    """Return the box around points, given in any nesting of x and y."""
    points = np.array(points, np.float64).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low, *(high - low)]


def shorten(items: Iterable) -> str:
    """Join the first ten items with commas."""
    items = list(items)
    return ', '.join(map(str, items[:10])) + (', ...' if items[10:] else '')
