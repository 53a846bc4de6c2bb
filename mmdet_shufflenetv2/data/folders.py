"""Finding what to train and to test on in any folder of data.

Annotation formats are told by looking: COCO JSON (its own layout, files beside
the images, Roboflow's ``train/_annotations.coco.json``), YOLO (a YAML file, or
``images/`` and ``labels/``), Pascal VOC's XML, CSV. File and folder names tell
the split; image folders are those that hold the files which the annotations
name. Where two files fit equally well nothing is guessed: the user has to say
which. Where nothing is set apart for validation, a part of the training images
is.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .csv_boxes import looks_like_boxes
from .listing import is_image, plain, walk
from .reading import read_boxes, read_raw
from .table import BoxTable, DatasetError, Source, shorten
from .yolo import NAME_FILES, label_file, read_yaml

#: Words in file or folder names by the part of the data they stand for.
ROLES = {
    'train': {'train', 'training', 'trainvalminusminival'},
    'val': {'val', 'valid', 'validation', 'minival'},
    'test': {'test', 'testing'},
}
#: Words of annotation files that hold no boxes of instances.
_OTHER_TASKS = {'captions', 'keypoints', 'stuff', 'panoptic', 'info'}
#: How much is set apart where there is no validation split.
VAL_FRACTION = 0.2
_SNIFFED = 1 << 20


class Splits(NamedTuple):
    """What a folder holds.

    Args:
        train: None where it was not wanted.
        val: The validation or test split.
        classes: Those of training, or of ``val`` without it.
        notes: What was found and assumed, for the log.
    """

    train: Source | None
    val: Source | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def format(self) -> str:
        """The annotations' format, or 'images' where there are none."""
        source = self.train or self.val
        return source.format if source else ''


def _words(name: str) -> set[str]:
    return set(re.split('[^a-z]+', name.lower()))


def role_of(path: str) -> str | None:
    """The split a relative path stands for; the last name that tells wins."""
    for part in reversed(plain(path).split('/')):
        words = _words(part)
        roles = [role for role, known in ROLES.items() if words & known]
        if roles:
            return roles[0] if len(roles) == 1 else None
    return None


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
    """Find what to train and to evaluate on in a folder.

    Args:
        data_root: The folder.
        wanted: ``('train', 'val')``, or ``('test',)`` where no training
            annotations are needed; images without any annotations will do
            there.
        train_ann: Annotation file or folder, where it should not be detected.
        val_ann: Likewise; that of training again to evaluate on it.
        train_img: Image folder, where it should not be detected.
        val_img: Likewise.
        val_fraction: Share of the training images to set apart; None does so
            only where there is no validation or test split.
        seed: Another one sets others apart.
        exif: See :class:`Source`.

    Raises:
        DatasetError: Something is missing or not clear; tells what was found,
            what is expected and which option decides.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise DatasetError(f'--data-root {root} is not a folder')
    found = _Found(root, exif)
    train = val = None
    if 'train' in wanted:
        train = found.split('train', train_ann, train_img)
        if val_fraction is None or val_ann:
            val = found.split('val', val_ann, val_img, but=train)
    else:
        val = found.split('test', val_ann, val_img)
    notes = []
    table = read_boxes(train or val) if (train or val).ann else None
    if table is None:
        notes.append(f'{root} has images without annotations')
    else:
        notes.append(
            f'{root} is in {table.source.format} format: '
            f'{len(table.classes)} classes ({shorten(table.classes)})'
        )
    if train and val is None:
        share = VAL_FRACTION if val_fraction is None else val_fraction
        train, val = (
            train._replace(part=(name, share, seed))
            for name in ('train', 'val')
        )
        notes.append(
            f'{len(read_boxes(val))} of the {len(table)} images are set apart '
            f'for validation (--val-fraction {share:g}, seed {seed})'
            + (
                '; no validation split was found'
                if val_fraction is None
                else ''
            )
        )
    if train and val:
        _same_classes(table, read_boxes(val))
    classes = table.classes if table is not None else ()
    return Splits(train, val, classes, tuple(notes))


def _same_classes(train: BoxTable, val: BoxTable) -> None:
    """Refuse objects to test on that nothing was trained for."""
    strange = [
        f'{name} ({count} boxes)'
        for name, count in zip(val.classes, val.counts(), strict=True)
        if count and name not in train.classes
    ]
    if strange:
        raise DatasetError(
            f'{val.title} has classes that {train.title} lacks: '
            f'{shorten(strange)}; the training file lists '
            f'{shorten(train.classes)}'
        )


class _Found:
    """What lies below a root, and the choice of splits among it."""

    def __init__(self, root: Path, exif: str) -> None:
        self.root, self.exif = root, exif
        self.images: set[str] = set()
        self.folders: dict[str, list[str]] = {}
        self.jsons: list[str] = []
        self.csvs: list[str] = []
        self.yamls: list[str] = []
        self.xml_folders: list[str] = []
        self.others: list[str] = []
        for folder, names in walk(root):
            self.folders[folder] = names
            for name in names:
                path = f'{folder}/{name}' if folder else name
                self._add(path, name, folder)

    def _add(self, path: str, name: str, folder: str) -> None:
        suffix = os.path.splitext(name)[1].lower()
        if is_image(name):
            self.images.add(plain(path))
        elif suffix == '.json' and not _words(name) & _OTHER_TASKS:
            (self.jsons if self._is_coco(path) else self.others).append(path)
        elif suffix == '.csv' and looks_like_boxes(str(self.root / path)):
            self.csvs.append(path)
        elif suffix in ('.yaml', '.yml'):
            if b'names' in self._start(path):
                self.yamls.append(path)
        elif suffix == '.xml' and folder not in self.xml_folders:
            self.xml_folders.append(folder)

    def _start(self, path: str) -> bytes:
        try:
            with open(self.root / path, 'rb') as file:
                return file.read(_SNIFFED)
        except OSError:
            return b''

    def _is_coco(self, path: str) -> bool:
        """By its beginning; one that cannot be read is told later."""
        start = self._start(path)
        text = start.removeprefix(b'\xef\xbb\xbf').lstrip()
        words = b'"images"', b'"annotations"', b'"categories"'
        return text[:1] == b'{' and any(word in start for word in words)

    def split(
        self,
        role: str,
        ann: str | None,
        img: str | None,
        but: Source | None = None,
    ) -> Source | None:
        """One split.

        Args:
            role: 'train' must be there; 'val' may be missing; 'test' takes
                what there is.
            ann, img: What the user names.
            but: The training split, which is not validated on.
        """
        option = 'train' if role == 'train' else 'val'
        if ann is not None:
            return self._given(role, option, ann, img)
        finders = {
            'COCO': self._coco,
            'YOLO': self._yolo,
            'VOC': self._voc,
            'CSV': self._csv,
        }
        for kind, find in finders.items():
            if but is None or kind == but.format:
                source = find(role, option, img)
                if source is not None and source != but:
                    return source
        if role == 'val':
            return None
        if role == 'test' and self.images and not self._has_training():
            folders = (self._path(img),) if img else (str(self.root),)
            return Source('images', '', folders, exif=self.exif)
        known = [*self.jsons, *self.csvs, *self.xml_folders]
        raise DatasetError(
            f'no annotations for {role} in {self.root}; found '
            f'{len(self.images)} images'
            + (f', annotations {shorten(known)}' if known else '')
            + (f', other files {shorten(self.others)}' if self.others else '')
            + '. Expected is COCO (such as annotations/instances_train.json '
            'or train/_annotations.coco.json), YOLO (data.yaml, or images/ '
            'and labels/), Pascal VOC (XML) or CSV; name a file with '
            f'--{option}-ann FILE'
            + ('' if role == 'train' else ', that of training included')
        )

    def _has_training(self) -> bool:
        """Whether the images are those of training, which are no test."""
        finders = self._coco, self._yolo, self._voc, self._csv
        return any(find('train', 'train', None) for find in finders)

    def _path(self, name: str, option: str = '', kind: str = 'file') -> str:
        for path in (self.root / name, Path(name)):
            if path.exists():
                return str(path)
        raise DatasetError(
            f'{option or "the data"} {name}: there is no such {kind} below '
            f'{self.root}, nor as given'
        )

    def _given(self, role, option, ann, img) -> Source:
        path = self._path(ann, f'--{option}-ann')
        suffix = Path(path).suffix.lower()
        if suffix == '.json':
            return self._with_images(
                'COCO', path, role_of(ann) or role, img, option
            )
        if suffix == '.csv':
            return self._with_images(
                'CSV', path, role_of(ann) or role, img, option
            )
        images = img and self._path(img, f'--{option}-img', 'folder')
        if suffix in ('.yaml', '.yml'):
            return self._from_yaml(Path(path), role, images) or Source(
                'YOLO', path, (images or str(self.root),), exif=self.exif
            )
        is_voc = os.path.isdir(path) and any(
            name.endswith('.xml') for _, names in walk(path) for name in names
        )
        kind = 'VOC' if is_voc else 'YOLO'
        folder = images or (str(self.root) if is_voc else path)
        names = path if is_voc or os.path.isfile(path) else self._names()
        return Source(kind, names, (folder,), exif=self.exif)

    def _choose(
        self, role: str, paths: Iterable[str], option: str
    ) -> str | None:
        """The one of several files that stands for a split."""
        paths = list(paths)
        roles = {path: role_of(path) for path in paths}
        for wanted in _ORDER[role]:
            fitting = [path for path in paths if roles[path] == wanted]
            unnamed = [path for path in paths if roles[path] is None]
            if role == 'train' and not fitting and len(unnamed) == 1:
                # The only file that no split is named for has all there is.
                fitting = unnamed
            fitting = [
                path for path in fitting if Path(path).stem[:9] == 'instances'
            ] or fitting
            if len(fitting) > 1:
                raise DatasetError(
                    f'{self.root} has several annotation files for {role}: '
                    f'{shorten(fitting)}; say which one with --{option}-ann '
                    'FILE'
                )
            if fitting:
                return fitting[0]
        return None

    def _coco(self, role, option, img) -> Source | None:
        path = self._choose(role, self.jsons, option)
        if path is None:
            return None
        return self._with_images(
            'COCO', str(self.root / path), role_of(path) or role, img, option
        )

    def _csv(self, role, option, img) -> Source | None:
        path = self._choose(role, self.csvs, option)
        if path is None:
            return None
        return self._with_images(
            'CSV', str(self.root / path), role_of(path) or role, img, option
        )

    def _with_images(self, kind, path, role, img, option) -> Source:
        if img is not None:
            folder = self._path(img, f'--{option}-img', 'folder')
        elif kind == 'CSV':
            beside = any(map(is_image, os.listdir(Path(path).parent)))
            folder = str(Path(path).parent if beside else self.root)
        else:
            folder = self._image_folder(path, role, option)
        return Source(kind, path, (folder,), exif=self.exif)

    def _image_folder(self, path: str, role: str, option: str) -> str:
        """The folder that the file names of a COCO file are relative to."""
        raw = read_raw(Source('COCO', path, ()))
        step = max(1, len(raw) // 50)
        names = [plain(name) for name in raw.names[::step]]
        if not names:
            raise DatasetError(f'{path} lists no image that can be used')
        fitting: dict[int, list[str]] = {}
        for folder in self.folders:
            prefix = f'{folder}/' if folder else ''
            hits = sum(prefix + name in self.images for name in names)
            if 2 * hits < len(names):
                continue
            # Splits may use the same file names, so folders' names count.
            told = role_of(folder)
            beside = os.path.samefile(self.root / folder, Path(path).parent)
            rank = 0 if beside or told == role else 1 if told is None else 2
            fitting.setdefault(rank, []).append(folder)
        if fitting:
            best = fitting[min(fitting)]
            if len(best) > 1:
                raise DatasetError(
                    f'the images of {path} are in several folders: '
                    f'{shorten(folder or "." for folder in best)}; say which '
                    f'one with --{option}-img DIR'
                )
            return str(self.root / best[0])
        # Names of another machine: of all images here, or of this split's.
        near = [
            folder
            for folder in self.folders
            if role_of(folder) == role
            and any(image.startswith(f'{folder}/') for image in self.images)
        ]
        for folder in [*near[:1], '']:
            source = Source('COCO', path, (str(self.root / folder),))
            if len(read_boxes(source)):
                return str(self.root / folder)
        raise DatasetError(
            f'the images of {path} are in no folder of {self.root}: looked '
            f'for {names[0]!r} and so on; name the folder with --{option}-img '
            'DIR'
        )

    def _names(self) -> str:
        """Where YOLO's class names are, or the root where nowhere."""
        found = [
            f'{folder}/{name}' if folder else name
            for folder, names in self.folders.items()
            for name in names
            if name in NAME_FILES
        ]
        found = self.yamls + found
        return str(self.root / found[0]) if found else str(self.root)

    def _yolo(self, role, option, img) -> Source | None:
        images = img and self._path(img, f'--{option}-img', 'folder')
        for path in self.yamls:
            source = self._from_yaml(self.root / path, role, images)
            if source is not None:
                return source
        folders = [
            folder
            for folder, names in self.folders.items()
            if any(
                is_image(name) and label_file(str(self.root / folder / name))
                for name in names[:50]
            )
        ]
        if not folders:
            return None
        if images:
            return Source('YOLO', self._names(), (images,), exif=self.exif)
        roles = {folder: role_of(folder) for folder in folders}
        for wanted in _ORDER[role]:
            fitting = [f for f in folders if roles[f] == wanted]
            if role == 'train' and not any(roles.values()):
                fitting = folders
            if fitting:
                paths = tuple(str(self.root / folder) for folder in fitting)
                return Source('YOLO', self._names(), paths, exif=self.exif)
        return None

    def _from_yaml(self, path: Path, role, images) -> Source | None:
        """A split of a YAML file; None if it has none."""
        data = read_yaml(path)
        if 'names' not in data:
            return None
        if images:
            return Source('YOLO', str(path), (images,), exif=self.exif)
        keys = {'train': ['train'], 'val': ['val', 'valid'], 'test': ['test']}
        given = [
            (key, data[key])
            for wanted in _ORDER[role]
            for key in keys.get(wanted, ())
            if data.get(key)
        ]
        for key, value in given:
            values = value if isinstance(value, list) else [value]
            places = [self._yaml_place(path, data, str(v)) for v in values]
            found = [place for place in places if place]
            lists = [place for place in found if place.endswith('.txt')]
            if not lists and found:
                return Source('YOLO', str(path), tuple(found), exif=self.exif)
            if len(found) > 1:
                raise DatasetError(
                    f'{path}: expected one list of images for {key!r}, got '
                    f'{len(found)}'
                )
            if found:
                folder = str(self.root)
                return Source(
                    'YOLO', str(path), (folder,), lists[0], self.exif
                )
        if role == 'train' and given:
            raise DatasetError(
                f'{path}: {given[0][1]!r} is not below {self.root}; expected '
                'a folder of images, or a list of them'
            )
        # Roboflow lists a validation folder even where there is none.
        return None

    def _yaml_place(self, path: Path, data: dict, value: str) -> str | None:
        """Where an entry of a YAML file leads, below the data root."""
        value = plain(value)
        base = plain(str(data.get('path') or ''))
        # Roboflow writes ../train/images for train/images.
        shorter = re.sub(r'^(\.\./)+', '', value)
        root = os.path.realpath(self.root)
        for place in (
            path.parent / base / value,
            path.parent / value,
            path.parent / shorter,
            self.root / shorter,
        ):
            real = os.path.realpath(place)
            inside = os.path.commonpath([root, real]) == root
            if place.exists() and inside:
                return str(place)
        return None

    def _voc(self, role, option, img) -> Source | None:
        if not self.xml_folders:
            return None
        images = img and self._path(img, f'--{option}-img', 'folder')
        roles = {folder: role_of(folder) for folder in self.xml_folders}
        for wanted in _ORDER[role]:
            fitting = [f for f in self.xml_folders if roles[f] == wanted]
            if len(fitting) > 1:
                raise DatasetError(
                    f'{self.root} has several folders of XML files for '
                    f'{role}: {shorten(fitting)}; say which one with '
                    f'--{option}-ann DIR'
                )
            if fitting:
                folder = self.root / fitting[0]
                return self._voc_source(folder, images, role)
        listed = self._image_set(role)
        if listed or (role != 'val' and not any(roles.values())):
            folder = os.path.commonpath(
                [self.root / folder for folder in self.xml_folders]
            )
            source = self._voc_source(Path(folder), images, None)
            return source._replace(image_list=listed)
        return None

    def _voc_source(self, folder: Path, images, role) -> Source:
        """Images are beside the XML files, or anywhere of this split."""
        if images is None:
            beside = any(map(is_image, os.listdir(folder)))
            near = [
                name
                for name in self.folders
                if role
                and role_of(name) == role
                and any(map(is_image, self.folders[name]))
            ]
            images = str(
                folder
                if beside
                else self.root / near[0]
                if near
                else self.root
            )
        return Source('VOC', str(folder), (images,), exif=self.exif)

    def _image_set(self, role: str) -> str | None:
        """VOC's list of the images of a split."""
        for wanted in _ORDER[role]:
            for folder, names in self.folders.items():
                inside = folder.split('/')[-2:] == ['ImageSets', 'Main']
                if inside and f'{wanted}.txt' in names:
                    return str(self.root / folder / f'{wanted}.txt')
        return None


#: The splits that serve as one, in the order of preference.
_ORDER = {
    'train': ('train',),
    'val': ('val', 'test'),
    'test': ('val', 'test', None),
}
