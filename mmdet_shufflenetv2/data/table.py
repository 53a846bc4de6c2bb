"""One table of boxes: what every annotation format is read to.

Legend: N images, K boxes, C classes; a box is (x, y, width, height) in pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError

#: How many records of each kind a message shows.
MAX_EXAMPLES = 5


class DatasetError(UserError):
    """A data set cannot be used; names the file, the record, the remedy."""


class Source(NamedTuple):
    """Where the boxes of one split are read from.

    Args:
        format: A key of :data:`mmdet_shufflenetv2.data.reading.READERS`.
        ann: The annotation file or folder.
        images: The folders that image names are relative to.
        image_list: A text file that names the images of this split, where
            ``ann`` has those of other splits too.
        exif: 'apply' if boxes are on the pictures as viewers show them,
            'ignore' if they are on the pixels as they are stored.
        part: 'train' or 'val', the share that is set apart for 'val', and
            the seed, where the images of one source are divided.
    """

    format: str
    ann: str
    images: tuple[str, ...]
    image_list: str | None = None
    exif: str = 'apply'
    part: tuple[str, float, int] | None = None


class Problems:
    """What is wrong with records, by kind: how many, and the first few."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        #: (image file, box) of the examples that have a place in a picture.
        self.places: dict[str, list[tuple[str, list[float]]]] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one record."""
        self.add_all(kind, 1, lambda _: example)

    def add_all(
        self,
        kind: str,
        count: int,
        describe: Callable[[int], str],
        place: Callable[[int], tuple[str, list[float]]] | None = None,
    ) -> None:
        """Count many; only those that are shown are described.

        Args:
            kind: What is wrong with all of them.
            count: How many there are.
            describe: Called with 0, 1, ... for the words on a record.
            place: Likewise for the image file and the box.
        """
        if not count:
            return
        shown = self.examples.setdefault(kind, [])
        for at in range(min(MAX_EXAMPLES - len(shown), count)):
            shown.append(describe(at))
            if place is not None:
                self.places.setdefault(kind, []).append(place(at))
        self.counts[kind] = self.counts.get(kind, 0) + count

    def besides(self, said: set) -> 'Problems':
        """What a set does not have, which it is added to."""
        left = Problems()
        for kind, examples in self.examples.items():
            fresh = [each for each in examples if (kind, each) not in said]
            said.update((kind, each) for each in fresh)
            if fresh:
                known = len(examples) - len(fresh)
                left.examples[kind] = fresh
                left.counts[kind] = self.counts[kind] - known
        return left

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return ''.join(f'\n  {line}' for line in self.lines())

    def lines(self) -> list[str]:
        """Each kind with its count and examples."""
        lines = []
        for kind, shown in self.examples.items():
            lines.append(f'{self.counts[kind]} x {kind}:')
            lines += [f'    {example}' for example in shown]
            if self.counts[kind] > len(shown):
                more = self.counts[kind] - len(shown)
                lines.append(f'    ... and {more} more')
        return lines


@dataclass
class BoxTable:
    """Images and boxes as columns.

    Attributes:
        source: Where they were read from.
        classes: Names in the order of the labels.
        category_ids: The number of each class in the file, int64 (C,).
        names: Each image's name in the file, N.
        files: Each image's path, N; '' for one that was not found.
        image_ids: int64 (N,).
        sizes: Width and height, float64 (N, 2); NaN where not known.
        records: What an image's boxes were read from, for messages, N.
        boxes: float64 (K, 4).
        labels: int64 (K,); -1 for a class that is not among ``classes``.
        image: Index of each box's image, int64 (K,).
        crowd: Boxes that are neither to be learned nor to be counted as
            missed, bool (K,).
        area: Of the object, not of its box, float64 (K,).
        lines: Position of each box's record in its file, int64 (K,).
        ids: Its id, where the format has one, int64 (K,).
        errors: Records that cannot be used, which are not in the table.
        warnings: Records that are odd, and what was done about it.
        looked: Whether the image files have been looked at.
    """

    source: Source
    classes: tuple[str, ...]
    category_ids: np.ndarray
    names: list[str]
    files: list[str]
    image_ids: np.ndarray
    sizes: np.ndarray
    records: list[str]
    boxes: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    lines: np.ndarray
    ids: np.ndarray
    errors: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)
    looked: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """The format and the file, for messages."""
        chosen = self.source.image_list
        part = f', images of {chosen}' if chosen else ''
        return f'{self.source.ann} ({self.source.format}{part})'

    def describe_image(self, index: int) -> str:
        """An image in words."""
        width, height = self.sizes[index]
        return f'{self.names[index]!r}, {width:g} x {height:g}'

    def describe_box(self, index: int) -> str:
        """A box in words: its record, image and numbers."""
        image = self.image[index]
        line = self.lines[index]
        if self.source.format == 'COCO':
            where = (
                f'annotations[{line}] (id {self.ids[index]}, image '
                f'{self.image_ids[image]} {self.describe_image(image)})'
            )
        else:
            where = (
                f'{self.records[image]}, {_UNITS[self.source.format]} {line} '
                f'({self.describe_image(image)})'
            )
        numbers = [round(float(value), 4) for value in self.boxes[index]]
        return f'{where}: box {numbers}'

    def keep_boxes(self, keep: np.ndarray) -> 'BoxTable':
        """The table with some of its boxes.

        Args:
            keep: bool (K,).
        """
        if keep.all():
            return self
        columns = ['boxes', 'labels', 'image', 'crowd', 'area', 'lines', 'ids']
        return replace(
            self, **{name: getattr(self, name)[keep] for name in columns}
        )

    def keep_images(self, keep: np.ndarray) -> 'BoxTable':
        """The table with some of its images, and their boxes.

        Args:
            keep: bool (N,), or indices that also say the order.
        """
        order = np.flatnonzero(keep) if keep.dtype == bool else keep
        place = np.full(len(self), -1)
        place[order] = np.arange(len(order))
        table = self.keep_boxes(place[self.image] >= 0)
        return replace(
            table,
            names=[self.names[i] for i in order],
            files=[self.files[i] for i in order],
            records=[self.records[i] for i in order],
            image_ids=self.image_ids[order],
            sizes=self.sizes[order],
            image=place[table.image],
        )

    def with_classes(self, classes: Sequence[str]) -> 'BoxTable':
        """The table with labels that count in other classes.

        Classes are matched by their names. Boxes of classes that are not
        wanted are left out; a wanted class that the file lacks gets a number
        of its own.

        Args:
            classes: Names in the order of the new labels.
        """
        own = {name: label for label, name in enumerate(self.classes)}
        new = {name: label for label, name in enumerate(classes)}
        labels = np.array([new.get(name, -1) for name in self.classes], int)
        free = 1 + max(self.category_ids, default=0)
        ids = []
        for name in classes:
            if name in own:
                ids.append(self.category_ids[own[name]])
            else:
                ids.append(free)
                free += 1
        table = replace(
            self,
            classes=tuple(classes),
            category_ids=np.array(ids, np.int64),
            # -1, no class, stays what it is.
            labels=np.append(labels, -1)[self.labels],
        )
        return table.keep_boxes(table.labels >= 0)

    def counts(self) -> np.ndarray:
        """How many boxes each class has, int64 (C,)."""
        return np.bincount(
            self.labels[self.labels >= 0], minlength=len(self.classes)
        )

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
        columns = zip(
            self.image_ids[self.image].tolist(),
            self.category_ids[self.labels].tolist(),
            self.boxes.tolist(),
            self.area.tolist(),
            self.crowd.astype(int).tolist(),
            strict=True,
        )
        keys = 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'
        return {
            'images': [
                {'id': number, 'file_name': name, 'width': w, 'height': h}
                for number, name, (w, h) in zip(
                    self.image_ids.tolist(),
                    self.names,
                    self.sizes.tolist(),
                    strict=True,
                )
            ],
            'annotations': [
                {'id': number, **dict(zip(keys, values, strict=True))}
                for number, values in enumerate(columns, 1)
            ],
            'categories': [
                {'id': number, 'name': name}
                for number, name in zip(
                    self.category_ids.tolist(), self.classes, strict=True
                )
            ],
        }


#: What one record of a format's file is called in messages.
_UNITS = {'YOLO': 'line', 'VOC': 'object', 'CSV': 'line'}


def assemble(
    source: Source,
    classes: Sequence[str],
    images: Sequence[tuple],
    rows: Sequence[tuple],
    problems: Problems,
    warnings: Problems | None = None,
) -> BoxTable:
    """A table out of records that a reader collected one by one.

    Args:
        source: Where they are from.
        classes: Names in the order of the labels; numbered from 0.
        images: (name, path, width, height, record) of each image.
        rows: (image, line, label, x, y, width, height, crowd) of each box.
        problems: What could not be read.
        warnings: What is odd.
    """
    names, files, widths, heights, records = (
        (list(column) for column in (zip(*images, strict=True)))
        if images
        else ([], [], [], [], [])
    )
    table = np.array(rows, np.float64).reshape(-1, 8)
    boxes = table[:, 3:7]
    with np.errstate(invalid='ignore', over='ignore'):
        area = boxes[:, 2] * boxes[:, 3]
    return BoxTable(
        source=source,
        classes=tuple(classes),
        category_ids=np.arange(len(classes)),
        names=names,
        files=files,
        image_ids=np.arange(len(names)),
        sizes=np.array([widths, heights], np.float64).T.reshape(-1, 2),
        records=records,
        boxes=boxes,
        labels=table[:, 2].astype(np.int64),
        image=table[:, 0].astype(np.int64),
        crowd=table[:, 7].astype(bool),
        area=area,
        lines=table[:, 1].astype(np.int64),
        ids=np.arange(len(table)),
        errors=problems,
        warnings=warnings or Problems(),
    )


def read_text(path: str | Path) -> str:
    """The text of a file, which may begin with a byte-order mark.

    Raises:
        DatasetError: It cannot be read or is not UTF-8.
    """
    try:
        text = Path(path).read_text('utf-8-sig')
    except OSError as error:
        raise DatasetError(
            f'{path} cannot be read: {error.strerror}'
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f'{path} is not UTF-8 text: {error.reason} at byte {error.start}'
        ) from error
    return text


def shorten(items: Iterable) -> str:
    """The first ten of a list in words."""
    items = list(items)
    return ', '.join(map(str, items[:10])) + (', ...' if items[10:] else '')
