"""One table of boxes: what every annotation format is read to.

Legend: N images, K boxes, C classes; a box is (x, y, width, height) in pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError

#: How many records of each kind a message shows.
MAX_EXAMPLES = 5
#: Pixels below which a detector of stride 16 finds hardly anything.
SMALL_BOX_PX = 8
#: How far an edge may be from the whole pixel that is meant.
WHOLE_PX = 0.01


class DatasetError(UserError):
    """A data set cannot be used; names the file, the record, the remedy."""


class Source(NamedTuple):
    """Where the boxes of one split are read from.

    Args:
        format: 'COCO', 'YOLO', 'VOC', 'CSV', or 'images' without any boxes.
        ann: The annotation file or folder.
        images: The folders that image names are relative to.
        image_list: Text files that name the images of this split, where
            ``ann`` has those of other splits too.
        exif: 'apply' if boxes are on the pictures as viewers show them,
            'ignore' if they are on the pixels as they are stored.
        part: 'train' or 'val', the share that is set apart for 'val' (None
            where files or folders say what each image is for), and the seed,
            where the images of one source are divided.
    """

    format: str
    ann: str
    images: tuple[str, ...]
    image_list: tuple[str, ...] = ()
    exif: str = 'apply'
    part: tuple[str, float | None, int] | None = None


class Problems:
    """What is wrong with records, by kind: how many, and the first few."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        #: (image file, box) of the examples that have a place in a picture.
        self.places: dict[str, list[tuple[str, list[float]]]] = {}

    def add(
        self, kind: str, *records: object, describe: Callable = str
    ) -> None:
        """Count records; only those that are shown are described."""
        if records:
            shown = self.examples.setdefault(kind, [])
            shown += map(describe, records[: MAX_EXAMPLES - len(shown)])
            self.counts[kind] = self.counts.get(kind, 0) + len(records)

    def texts(self) -> list[str]:
        """Each kind with its count and examples, to be put after a title."""
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


#: What readers collect of an image and of a box; columns of a table.
IMAGE_ROW = _columns(
    'image_ids names files records splits sizes', 'i8 O O O O 2f8'
)
BOX_ROW = _columns(
    'image lines ids labels crowd area boxes', 'i8 i8 i8 i8 ? f8 4f8'
)


@dataclass
class BoxTable:
    """Images and boxes as columns, and what was wrong with the others."""

    source: Source
    #: Names in the order of the labels, and the number of each in the file.
    classes: tuple[str, ...]
    category_ids: np.ndarray  # int64 (C,)
    image_ids: np.ndarray  # int64 (N,)
    names: list[str]  # of each image in the annotations
    files: list[str]  # its path; '' where images are not looked for
    records: list[str]  # the file that an image's boxes were read from
    splits: list[str | None]  # as its line or folder says
    sizes: np.ndarray  # width and height, float64 (N, 2)
    image: np.ndarray  # index of each box's image, int64 (K,)
    lines: np.ndarray  # position of its record in its file, int64 (K,)
    ids: np.ndarray  # its id, -1 where it has none, int64 (K,)
    labels: np.ndarray  # int64 (K,)
    crowd: np.ndarray  # neither to be learned nor to be found, bool (K,)
    area: np.ndarray  # of the object, not of its box, float64 (K,)
    boxes: np.ndarray  # float64 (K, 4)
    #: Records that are not in the table, and those that are odd.
    errors: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """The format and the file, for messages."""
        chosen = self.source.image_list
        part = f', images of {", ".join(chosen)}' if chosen else ''
        return f'{self.source.ann} ({self.source.format}{part})'

    def describe_image(self, index: int) -> str:
        """An image in words."""
        width, height = self.sizes[index]
        return f'{self.names[index]!r}, {width:g} x {height:g}'

    def describe_box(self, index: int) -> str:
        """A box in words: its record, image and numbers."""
        image, line = self.image[index], self.lines[index]
        where = f'{self.records[image]}, line or object {line}'
        if self.source.format == 'COCO':
            where = f'annotations[{line}] (id {self.ids[index]})'
        told, box = self.describe_image(image), self.boxes[index].round(4)
        return f'{where}, image {told}: box {box.tolist()}'

    def keep_boxes(self, keep: np.ndarray) -> 'BoxTable':
        """The table with some of its boxes; ``keep`` is bool (K,)."""
        rows = {name: getattr(self, name)[keep] for name in BOX_ROW.names}
        return replace(self, **rows)

    def keep_images(self, keep: np.ndarray) -> 'BoxTable':
        """The table with some of its images and their boxes; ``keep`` is bool
        (N,).
        """
        table, kept = self.keep_boxes(keep[self.image]), {}
        for name in IMAGE_ROW.names:
            values = getattr(self, name)
            some = list(compress(values, keep))
            kept[name] = some if isinstance(values, list) else values[keep]
        image = (np.cumsum(keep) - 1)[table.image]
        return replace(table, image=image, **kept)

    def with_classes(self, classes: Sequence[str]) -> 'BoxTable':
        """The table of other classes, matched by name; one that the file
        lacks gets a number of its own.
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

    def counts(self) -> np.ndarray:
        """How many boxes each class has, int64 (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def learned(self) -> np.ndarray:
        """Boxes that MMDetection does not leave out, bool (K,)."""
        return (self.boxes[:, 2:] >= 1).all(axis=1)

    def image_sizes(self) -> np.ndarray:
        """Width and height of each image in pixels, float64 (N, 2)."""
        return self.sizes

    def box_sizes(self, scale: tuple[int, int] | None = None) -> np.ndarray:
        """Square root of each box's area in pixels, float64 (K,).

        Args:
            scale: Measured after mmdet's ``Resize(scale, keep_ratio=True)``.
        """
        sizes = np.sqrt(self.boxes[:, 2:].prod(axis=1))
        if scale is None:
            return sizes
        factors = np.sort(scale) / np.sort(self.sizes, axis=1)
        return sizes * factors.min(axis=1)[self.image]

    def to_coco(self) -> dict:
        """A COCO file's content, as evaluators read it.

        Annotation ids count from 1: pycocotools takes a match with id 0 for
        none.
        """

        def rows(names: str, *columns: Iterable) -> list[dict]:
            values = (np.array(column).tolist() for column in columns)
            pairs = partial(zip, names.split(), strict=True)
            return list(map(dict, map(pairs, zip(*values, strict=True))))

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


def read_text(path: str | Path) -> str:
    """The text of a file, which may begin with a byte-order mark.

    Raises:
        DatasetError: It cannot be read, or is neither UTF-8 nor UTF-16.
    """
    try:
        return decode_text(Path(path).read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, 'strerror', None) or error
        raise DatasetError(f'{path} cannot be read: {why}') from error


def decode_text(content: bytes, otherwise: str | None = None) -> str:
    """Text in UTF-8, in UTF-16 with its mark, or else in another code."""
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        return content.decode('utf-16')
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError:
        if otherwise is None:
            raise
        return content.decode(otherwise)


def near_whole(edges: np.ndarray) -> np.ndarray:
    """Edges in pixels, where shares printed with few digits met whole pixels
    only nearly, as they were meant.
    """
    whole = np.round(edges)
    return np.where(np.abs(edges - whole) <= WHOLE_PX, whole, edges)


def box_around(points: Iterable) -> list[float]:
    """x, y, width and height around points, in any nesting of x and y."""
    points = np.array(points, np.float64).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low, *(high - low)]


def shorten(items: Iterable) -> str:
    """The first ten of a list in words."""
    items = list(items)
    return ', '.join(map(str, items[:10])) + (', ...' if items[10:] else '')
