"""Whether a train and a validation split are whole and have all images."""

from collections.abc import Iterable
from pathlib import Path

from .coco_stream import DatasetError, Record
from .image_folder import ImageFolder

#: How many offending records an error shows.
MAX_EXAMPLES = 5


def examples(items: Iterable, shown: int = MAX_EXAMPLES) -> str:
    """The first few of many, and how many there are besides."""
    items = [str(item) for item in items]
    rest = f' and {len(items) - shown} more' if len(items) > shown else ''
    return ', '.join(items[:shown]) + rest


class SplitCheck:
    """Collects the images of one split and finds what is wrong with them.

    Args:
        name: Name of the split for messages.
        root: Folder that ``folder`` + ``file_name`` are relative to.
        expected: How many images the split must have; None for any number.
    """

    def __init__(self, name: str, root: Path, expected: int | None) -> None:
        self.name, self.expected = name, expected
        self._images = ImageFolder(root)
        self.ids: set[int] = set()
        self.owners: set[int] = set()
        self.ann_ids: set[int] = set()
        self.problems: list[str] = []
        self._absent: list[str] = []

    def add_image(self, source: str, record: Record, folder: str) -> None:
        image_id, name = record.value.get('id'), record.value.get('file_name')
        where = f'{source}: images[{record.index}]'
        if type(image_id) is not int or not isinstance(name, str) or not name:
            raise DatasetError(
                f'{where} needs a whole-number id and a file_name, but has '
                f'id={image_id!r}, file_name={name!r}'
            )
        if image_id in self.ids:
            raise DatasetError(f'{where}: image id {image_id} comes twice')
        self.ids.add(image_id)
        path = f'{folder}/{name}'
        if not self._images.has(path):
            hint = self._images.hint(path)
            self._absent.append(f'{path} (id {image_id}{hint})')

    def add_annotation(self, source: str, record: Record) -> None:
        ann_id, owner = record.value.get('id'), record.value.get('image_id')
        where = f'{source}: annotations[{record.index}]'
        if type(ann_id) is not int or type(owner) is not int:
            raise DatasetError(
                f'{where} needs whole-number id and image_id, but has '
                f'id={ann_id!r}, image_id={owner!r}'
            )
        if ann_id in self.ann_ids:
            raise DatasetError(f'{where}: annotation id {ann_id} comes twice')
        self.ann_ids.add(ann_id)
        self.owners.add(owner)

    def finish(self) -> list[str]:
        """Messages on what is wrong with the split as a whole."""
        problems = []
        if self.expected is not None and len(self.ids) != self.expected:
            problems.append(
                f'{self.name} must have {self.expected} images, but has '
                f'{len(self.ids)}'
            )
        if self._absent:
            problems.append(
                f'{self.name} lists {len(self._absent)} images that are not '
                f'there: {examples(self._absent)}'
            )
        stray = sorted(self.owners - self.ids)
        if stray:
            problems.append(
                f'{self.name} has annotations of {len(stray)} images that it '
                f'does not list: image_id {examples(stray)}'
            )
        if not self.ann_ids:
            problems.append(f'{self.name} has no annotations')
        return problems


def verify_pair(train: SplitCheck, val: SplitCheck) -> None:
    """Raise a DatasetError unless both are whole and share no image."""
    problems = train.finish() + val.finish()
    both = sorted(train.ids & val.ids)
    if both:
        problems.append(
            f'{train.name} and {val.name} overlap in {len(both)} images: id '
            f'{examples(both)}'
        )
    if problems:
        raise DatasetError('\n'.join(problems))
