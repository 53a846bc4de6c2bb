"""Finding the training, validation and test data in any folder.

Annotation formats are detected from the files: COCO JSON (COCO's own layout,
files next to the images, Roboflow's ``train/_annotations.coco.json``), YOLO
(YAML, or ``images/`` and ``labels/``), Pascal VOC XML, CSV. File and folder
names determine the split. If two files fit equally well, the user must choose
one. Without a validation split, part of the training images is held out.
"""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .csv_boxes import CSV_SUFFIXES, looks_like_boxes
from .listing import ORDER, ROLES, is_image, plain, role_of, walk
from .reading import read_boxes
from .split import divides
from .table import BoxTable, DatasetError, Source, read_text, shorten
from .yolo import (
    NAME_FILES,
    class_names,
    is_label_file,
    label_files,
    read_yaml,
)

#: Folders of VOC's image lists for other tasks than detection.
OTHER_TASKS = {'segmentation', 'layout', 'action'}
#: Fraction of the images held out if there is no validation split.
VAL_FRACTION = 0.2


class Splits(NamedTuple):
    """The splits found in a folder.

    Args:
        train: The training split; None if it was not asked for.
        val: The validation or test split.
        classes: Classes of ``train`` or, without it, of ``val``.
        notes: Findings and assumptions, for the log.
    """

    train: Source | None
    val: Source
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def guess_format(ann: str) -> str:
    """Guess the format from the file suffix; a folder of XML files is VOC."""
    files = [name.lower() for _, names in walk(ann) for name in names]
    if any(name.endswith('.xml') for name in files):
        return 'VOC'
    kinds = {'.json': 'COCO', **dict.fromkeys(CSV_SUFFIXES, 'CSV')}
    return kinds.get(os.path.splitext(ann)[1].lower(), 'YOLO')


def find_data(
    data_root: str | os.PathLike,
    wanted: Sequence[str] = ('train', 'val'),
    train_ann: str | None = None,
    val_ann: str | None = None,
    train_img: str | None = None,
    val_img: str | None = None,
    val_fraction: float | None = None,
    seed: int = 0,
    exif: str = 'apply',
) -> Splits:
    """Find the data to train and to evaluate on in a folder.

    Args:
        data_root: The folder.
        wanted: ``('train', 'val')``, or ``('test',)``, for which neither
            training annotations nor any others are required.
        train_ann, val_ann: Annotation files or folders to use instead of
            detected ones; they may be the same.
        train_img, val_img: Image folders to use instead of detected ones.
        val_fraction: Fraction of the training images to hold out; None holds
            images out only if there is no validation or test split.
        seed: Seed of the choice of images to hold out.
        exif: See :class:`Source`.

    Raises:
        DatasetError: Data are missing or ambiguous; the message says what was
            found, what was expected and which option decides.
    """
    if not os.path.isdir(data_root):
        raise DatasetError(f'--data-root {data_root} is not a folder')
    found = _Folder(Path(data_root), exif)
    if 'train' not in wanted:
        train, val = None, found.split('test', val_ann, val_img)
    else:
        train, val = found.split('train', train_ann, train_img), None
        if val_fraction is None or val_ann:
            val = found.split('val', val_ann, val_img, train)
    if val and not val.ann:
        note = f'{data_root} has images without annotations'
        return Splits(None, val, (), (note,))
    for source in filter(None, (val, train)):
        table = read_boxes(source)
        if not len(table):
            raise DatasetError(f'{table.title}: no usable image{table.errors}')
    table = read_boxes(train or val)
    notes = [
        f'{data_root} is in {table.source.format} format: '
        f'{len(table.classes)} classes ({shorten(table.classes)})'
    ]
    others = [k for k in ('COCO', 'VOC', 'CSV') if found.found[k]]
    others = [kind for kind in others if kind != table.source.format]
    if others and not (train_ann or val_ann):
        others = ' and '.join(others)
        notes.append(f'{others} annotations were found too and are not used')
    if train is None and divides(table):
        val = val._replace(part=('val', None, seed))
    if val is None:
        train, val, note = _hold_out(train, val_fraction, seed)
        notes.append(note)
    if train is not None:
        one, other = ({*read_boxes(each).files} for each in (train, val))
        if one & other:
            notes.append(
                f'{len(one & other)} images are in both training and '
                'validation, so the metrics will be too high'
            )
        notes += found.unused(one | other, train.format)
    unknown = classes_beyond(read_boxes(val), table.classes)
    if unknown:
        raise DatasetError(
            f'{read_boxes(val).title} has classes that {table.title} lacks: '
            f'{shorten(unknown)}; the training classes are '
            f'{shorten(table.classes)}. Remove these boxes, or hold out '
            f'training images instead: --val-fraction {VAL_FRACTION}'
        )
    return Splits(train, val, table.classes, tuple(notes))


def _hold_out(
    train: Source, fraction: float | None, seed: int
) -> tuple[Source, Source, str]:
    """Divide the training images; return both parts and a note."""
    table, how = read_boxes(train), 'as their files or folders say'
    share = fraction
    if share is None and not divides(table):
        share = VAL_FRACTION
    if share is not None:
        how = f'(--val-fraction {share:g}, seed {seed})'
        if fraction is None:
            how += '; no validation split was found'
    train, val = (
        train._replace(part=(name, share, seed)) for name in ('train', 'val')
    )
    count = f'{len(read_boxes(val))} of the {len(table)} images'
    return train, val, f'{count} are held out for validation {how}'


def classes_beyond(table: BoxTable, classes: Sequence[str]) -> list[str]:
    """Describe the classes of a table that have boxes but are not listed."""
    return [
        f'{name} ({count} boxes)'
        for name, count in zip(table.classes, table.counts(), strict=True)
        if count and name not in classes
    ]


def _kind(path: Path) -> str:
    """Determine the kind of a file from its name and its first bytes."""
    suffix = path.suffix.lower()
    if is_image(path.name):
        return 'image'
    if suffix == '.xml':
        return 'VOC'
    known = suffix in ('.json', '.yaml', '.yml', *CSV_SUFFIXES)
    if not known or not path.is_file():
        return 'other'
    with open(path, 'rb') as file:
        start = file.read(1 << 20)
    if suffix in CSV_SUFFIXES:
        return 'CSV' if looks_like_boxes(start) else 'other'
    # Without byte-order mark and zeros, UTF-16 reads like ASCII.
    start = start.lstrip(b'\xef\xbb\xbf\xff\xfe').replace(b'\0', b'').lstrip()
    if suffix != '.json':
        return 'YAML' if re.search(rb'\bnames\b', start) else 'other'
    known = re.search(rb'"(images|annotations)"\s*:\s*\[', start)
    return 'COCO' if start[:1] == b'{' and known else 'other'


class _Folder:
    """The files below a root, and the choice of splits among them.

    A role is 'train', which is required, 'val', which is optional, or 'test',
    which also accepts images without annotations.
    """

    def __init__(self, root: Path, exif: str) -> None:
        self.root, self.exif = root, exif
        self.folders = dict(walk(root))
        #: Files by kind, with ``/``; for VOC, the folders of the XML files.
        self.found: dict[str, list[str]] = defaultdict(list)
        for folder, names in self.folders.items():
            for name in names:
                path = posixpath.join(folder, name)
                kind = _kind(root / path)
                path = folder if kind == 'VOC' else path
                if path not in self.found[kind][-1:]:
                    self.found[kind].append(path)

    def split(
        self,
        role: str,
        ann: str | None,
        img: str | None,
        train: Source | None = None,
    ) -> Source | None:
        """Find the source of a role; None if there is no validation split.

        ``ann`` and ``img`` override detection; ``train`` is not found again.
        """
        option = _option(role)
        img = img and self._path(img, f'{option}-img')
        if ann:
            path = self._path(ann, f'{option}-ann')
            kind = guess_format(path)
            if kind == 'YOLO':
                return self._yolo_of(path, role, img)
            return self._source(kind, path, img or self.root)
        kinds = [train.format] if train else ['COCO', 'YOLO', 'VOC', 'CSV']
        # A YAML file without label files may be for something else.
        kinds.sort(key=lambda kind: kind == 'YOLO' and not self._labelled)
        for kind in kinds:
            find = self._yolo if kind == 'YOLO' else partial(self._find, kind)
            source = find(role, img)
            if source not in (None, train):
                return source
        if role == 'val':
            return None
        known = [p for k in ('COCO', 'VOC', 'CSV') for p in self.found[k]]
        images = self.found['image']
        if role == 'test' and images and not (known or self._labelled):
            return self._source('images', '', img or self.root)
        raise DatasetError(
            f'no annotations for {role} in {self.root}; found {len(images)} '
            f'images and {shorten(known) or "no annotations"}'
            f'{self._unreadable()}. Expected COCO (such as '
            'annotations/instances_train.json, train/_annotations.coco.json), '
            'YOLO (data.yaml, or images/ and labels/), Pascal VOC (XML) or '
            'CSV; name a file, which may be the training file, with '
            f'{option}-ann FILE'
        )

    def _unreadable(self) -> str:
        """List unreadable files that may hold annotations, for a message."""
        files = []
        for path in self.found['other']:
            suffix = Path(path).suffix.lower()
            if suffix in ('.json', *CSV_SUFFIXES):
                with open(self.root / path, 'rb') as file:
                    start = file.read(80).decode('latin-1')
                files.append(f'{path} (it begins with {start!r})')
            elif suffix in ('.xlsx', '.xls', '.parquet', '.txt'):
                files.append(path)
        return f', but cannot read {shorten(files[:3])}' if files else ''

    def unused(self, used: set[str], kind: str) -> list[str]:
        """Return notes on images of no split and labels of no image."""
        used = {*map(os.path.abspath, used)}
        folders = [
            os.path.dirname(path) or '.'
            for path in self.found['image']
            if os.path.abspath(self.root / path) not in used
        ]
        folders = [each for each in folders if role_of(each) != 'test']
        places = {*map(os.path.dirname, self._labels.values())}
        texts = [
            path
            for path in self._texts
            if str((self.root / path).parent) in places
            and is_label_file(self.root / path)
        ]
        notes = []
        if folders:
            notes.append(
                f'{len(folders)} images in {shorten(dict.fromkeys(folders))} '
                'are not used for training or validation'
            )
        if texts and kind == 'YOLO':
            notes.append(
                f'{len(texts)} label files have no image: {shorten(texts)}'
            )
        return notes

    def _path(self, name: str, option: str) -> str:
        for path in (self.root / name, Path(name)):
            if path.exists():
                return str(path)
        raise DatasetError(
            f'{option} {name}: not found as given or below {self.root}'
        )

    def _source(self, kind, ann, *images, listed=()) -> Source:
        images = tuple(map(str, images))
        return Source(kind, str(ann), images, tuple(listed), self.exif)

    def _find(self, kind: str, role: str, img: str | None) -> Source | None:
        """Find a split in COCO, VOC or CSV format; None if there is none."""
        paths, listed = self.found[kind], ()
        fitting = _of_role(role, paths)
        if kind == 'VOC' and paths and not any(map(role_of, paths)):
            listed = self._image_lists(role, 'stem')
            fitting = [os.path.commonpath(paths)]
            fitting = fitting if listed or role != 'val' else []
        best = [p for p in fitting if Path(p).stem.startswith('instances')]
        fitting = best or fitting
        if len(fitting) > 1:
            raise DatasetError(
                f'{self.root} has several annotation files for {role}: '
                f'{shorten(fitting)}; choose one with {_option(role)}-ann FILE'
            )
        if not fitting:
            return None
        ann = self.root / fitting[0]
        return self._source(kind, ann, img or self.root, listed=listed)

    def _image_lists(self, role: str, part: str) -> tuple[str, ...]:
        """Find the lists of a split, by image stem (VOC) or name (YOLO):
        train.txt in every folder, or else all such as aeroplane_train.txt.
        """
        images = {getattr(Path(path), part) for path in self.found['image']}
        lists: dict[tuple, list[str]] = defaultdict(list)
        for path in self._texts:
            *folders, name = path.lower().split('/')
            stem = name.removesuffix('.txt')
            split = role_of(stem)
            if not split or {*folders} & OTHER_TASKS:
                continue
            text = read_text(self.root / path, 'latin-1')
            # Lists of one class have a second column.
            words = {*text.splitlines(), *text.split()}
            if images & {getattr(Path(plain(w)), part) for w in words}:
                place = 'main' in folders, stem in ROLES[split], split
                lists[place].append(str(self.root / path))
        for place in product((True, False), (True, False), ORDER[role]):
            if place in lists:
                return tuple(lists[place])
        return ()

    @cached_property
    def _labels(self) -> dict[str, str]:
        """YOLO label files by image."""
        return label_files(str(self.root / p) for p in self.found['image'])

    @cached_property
    def _labelled(self) -> list[str]:
        """Image folders that have YOLO label files."""
        folders = dict.fromkeys(map(os.path.dirname, self._labels))
        return [os.path.relpath(each or '.', self.root) for each in folders]

    @cached_property
    def _texts(self) -> list[str]:
        """Text files other than the labels of an image."""
        labels = {*self._labels.values()}
        texts = [p for p in self.found['other'] if p.lower().endswith('.txt')]
        return [path for path in texts if str(self.root / path) not in labels]

    def _names(self, role: str) -> Path:
        """Find the file of YOLO's class names; the root if there is none."""
        paths = self.found['YAML']
        paths = [p for p in paths if 'names' in read_yaml(self.root / p)]
        others = self.found['other']
        paths += [path for path in others if Path(path).name in NAME_FILES]
        # LabelImg writes one into each folder, each with its own order.
        roles = {*ORDER[role], None}
        paths = [path for path in paths if role_of(path) in roles] or paths
        if len({tuple(class_names(self.root / path)) for path in paths}) > 1:
            raise DatasetError(
                f'{self.root} has several lists of class names for {role}: '
                f'{shorten(paths)}; choose one with {_option(role)}-ann FILE '
                f'and its images with {_option(role)}-img DIR'
            )
        return self.root / [*paths, ''][0]

    def _yolo(self, role: str, img: str | None) -> Source | None:
        errors = []
        for path in self.found['YAML']:
            try:
                source = self._from_yaml(str(self.root / path), role, img)
            except DatasetError as error:
                # Another file may be the one of this data.
                errors.append(error)
                continue
            if source is not None:
                return source
        if errors:
            raise errors[0]
        folders, listed = _of_role(role, self._labelled), ()
        if not any(map(role_of, self._labelled)):
            # Darknet: train.txt and test.txt next to one folder of images.
            listed = self._image_lists(role, 'name')
            folders = self._labelled if listed else folders
        if not folders:
            return None
        images = [img] if img else [self.root / each for each in folders]
        return self._source('YOLO', self._names(role), *images, listed=listed)

    def _yolo_of(self, path: str, role: str, img: str | None) -> Source:
        """Make a source of a given YAML file, list of names or folder."""
        source, ann = None, path
        if os.path.isdir(path):
            img, ann = img or path, self._names(role)
        elif path.endswith(('.yaml', '.yml')):
            source = self._from_yaml(path, role, img)
        return source or self._source('YOLO', ann, img or self.root)

    def _from_yaml(self, path: str, role: str, img) -> Source | None:
        """Make a source of a split in a YAML file; None if there is none."""
        data = read_yaml(path)
        if 'names' not in data:
            return None
        if img:
            return self._source('YOLO', path, img)
        if 'valid' in data:
            data = {'val': data['valid'], **data}
        for values in filter(None, map(data.get, ORDER[role])):
            values = values if isinstance(values, list) else [values]
            values = list(map(str, values))
            places = {v: self._yaml_place(path, data, v) for v in values}
            missing = [value for value in places if not places[value]]
            # Roboflow lists a validation folder even if there is none.
            if role != 'train' and len(missing) == len(places):
                continue
            lists = [v for v in places if str(places[v]).endswith('.txt')]
            if wrong := missing or (len(lists) < len(places) and lists):
                raise DatasetError(
                    f'{path}: for {role}, expected folders, or else lists of '
                    f'images, below {self.root}, got {shorten(wrong)}'
                )
            images = [self.root] if lists else places.values()
            listed = places.values() if lists else ()
            return self._source('YOLO', path, *images, listed=listed)
        return None

    def _yaml_place(self, path: str, data: dict, value: str) -> str | None:
        """Resolve an entry of a YAML file to a path below the data root."""
        given, parent = Path(plain(value)), Path(path).parent
        places = [parent / plain(str(data.get('path') or '')) / given]
        if not (given.is_absolute() and os.path.exists(given)):
            # A path of another machine or relative to another folder: its
            # end may be here, but has to name the same split.
            for start in range(len(given.parts) or 1):
                end = Path(*given.parts[start:])
                if role_of(str(end)) == role_of(str(given)):
                    places += [parent / end, self.root / end]
        root = self.root.resolve()
        for place in places:
            if os.path.exists(place) and place.resolve().is_relative_to(root):
                return str(place)
        return None


def _option(role: str) -> str:
    """Return the prefix of the options of a split."""
    return '--train' if role == 'train' else '--val'


def _of_role(role: str, paths: Sequence[str]) -> list[str]:
    """Return the paths of the most suitable split that has any."""
    for wanted in ORDER[role]:
        fitting = [path for path in paths if role_of(path) == wanted]
        if fitting:
            return fitting
    return []
