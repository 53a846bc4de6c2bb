"""Finding the annotation files and images of any COCO-format folder.

Known are COCO's own layout (``annotations/instances_train2017.json`` with
``train2017/``), ``annotations/{train,val,test}.json`` with ``images/`` or
``images/train/``, JSON files beside the images, and Roboflow's
``train/_annotations.coco.json``. File and folder names tell the split, image
folders are found by looking for the files that the annotations name. Where two
files fit equally well nothing is guessed: the user has to say which.
"""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .check_report import CHECKED_SUFFIX
from .coco_stream import DatasetError, iter_records

#: Words in file or folder names by the part of the data they stand for.
ROLES = {
    'train': {'train', 'training', 'trainvalminusminival'},
    'val': {'val', 'valid', 'validation', 'minival'},
    'test': {'test', 'testing'},
}
#: Words of annotation files that hold no boxes of instances.
_OTHER_TASKS = {'captions', 'keypoints', 'stuff', 'panoptic', 'info'}
_SAMPLES = 8
_DEPTH = 3


class CocoSplit(NamedTuple):
    """Both paths start with the data root that was given."""

    ann_file: Path
    img_dir: Path


class CocoSplits(NamedTuple):
    """``classes`` are in the order of the training file's categories.

    MMDetection numbers labels in the order of a file's categories, not of
    their ids; see ``classes`` of :func:`check_coco_file` for a validation
    file in another order.
    """

    train: CocoSplit
    val: CocoSplit
    classes: tuple[str, ...]


def _words(name: str) -> set[str]:
    return set(re.split('[^a-z]+', name.lower()))


def _roles(name: str) -> set[str]:
    return {role for role, words in ROLES.items() if words & _words(name)}


def _role_of(path: Path) -> str | None:
    """The split a relative path stands for; the last name that tells wins."""
    for part in reversed(path.parts):
        roles = _roles(part)
        if roles:
            return roles.pop() if len(roles) == 1 else None
    return None


def _folders(root: Path) -> Iterator[Path]:
    """The root and the folders below it, relative, shallow ones first."""
    level = [Path()]
    for _ in range(_DEPTH + 1):
        yield from level
        level = [
            folder / entry.name
            for folder in level
            for entry in sorted(
                os.scandir(root / folder), key=lambda entry: entry.name
            )
            if entry.is_dir() and not entry.name.startswith('.')
        ]


def _find_annotations(root: Path) -> list[Path]:
    return [
        folder / name
        for folder in _folders(root)
        for name in sorted(os.listdir(root / folder))
        if name.endswith('.json')
        and not _words(name) & _OTHER_TASKS
        and not name.startswith('.')
        # A repaired copy in a work dir that lies below the root.
        and not name.endswith(CHECKED_SUFFIX)
    ]


def _choose_annotation(
    root: Path, role: str, found: list[Path], option: str
) -> Path | None:
    """The file of a split, None if there is none."""
    fitting = [path for path in found if _role_of(path) == role]
    instances = [path for path in fitting if path.name.startswith('instances')]
    fitting = instances or fitting
    if len(fitting) > 1:
        names = ', '.join(map(str, fitting))
        raise DatasetError(
            f'{root} has several annotation files for {role}: {names}; say '
            f'which one with {option} FILE'
        )
    return fitting[0] if fitting else None


def _given_annotation(root: Path, name: str, option: str) -> Path:
    for path in (root / name, Path(name)):
        if path.is_file():
            return path
    raise DatasetError(
        f'{option} {name}: there is no such file below {root}, nor as given'
    )


def _not_found(root: Path, split: str, found: list[Path]) -> DatasetError:
    listed = ', '.join(map(str, found[:10])) or 'no .json file'
    if split == 'train':
        return DatasetError(
            f'no training annotations in {root}; found {listed}. Expected is '
            'COCO format, such as annotations/instances_train.json, '
            'annotations/train.json, train.json or '
            'train/_annotations.coco.json; name another file with --train-ann '
            'FILE'
        )
    return DatasetError(
        f'no validation annotations in {root}; found {listed}. Expected is a '
        "file with 'val', 'valid' or 'test' in its name; name another one "
        'with --val-ann FILE. To measure on the training images themselves, '
        'give the training file to --val-ann'
    )


def _sample_names(ann_file: Path) -> list[str]:
    records = (r for r in iter_records(ann_file) if r.section == 'images')
    names = [
        record.value.get('file_name') for record in islice(records, _SAMPLES)
    ]
    names = [name for name in names if isinstance(name, str) and name]
    if not names:
        raise DatasetError(
            f'{ann_file} lists no image with a file_name; a COCO file has '
            "'images', 'annotations' and 'categories'"
        )
    return names


def _find_images(root: Path, ann_file: Path, role: str, option: str) -> Path:
    """The folder that the file names of an annotation file are relative to."""
    names = _sample_names(ann_file)
    fitting: dict[int, list[Path]] = {}
    for folder in _folders(root):
        hits = sum((root / folder / name).is_file() for name in names)
        if 2 * hits < len(names):
            continue
        # Splits may use the same file names, so the folder's name counts.
        told = _role_of(folder)
        if told == role or root / folder == ann_file.parent:
            rank = 0
        else:
            rank = 1 if told is None else 2
        fitting.setdefault(rank, []).append(root / folder)
    if not fitting:
        raise DatasetError(
            f'the images of {ann_file} are in no folder of {root}: looked for '
            f'{names[0]!r} and so on, {_DEPTH} levels deep; name the folder '
            f'with {option} DIR'
        )
    best = fitting[min(fitting)]
    if len(best) > 1:
        raise DatasetError(
            f'the images of {ann_file} are in several folders: '
            f'{", ".join(map(str, best))}; say which one with {option} DIR'
        )
    return best[0]


def _image_folder(
    root: Path, ann_file: Path, role: str, given: str | None, option: str
) -> Path:
    if given is None:
        return _find_images(root, ann_file, role, option)
    for path in (root / given, Path(given)):
        if path.is_dir():
            return path
    raise DatasetError(
        f'{option} {given}: there is no such folder below {root}, nor as given'
    )


def _find_split(
    root: Path, found: list[Path], split: str, ann: str | None, img: str | None
) -> CocoSplit:
    """One split; a test split stands in where there is no validation."""
    option = f'--{split}-ann'
    if ann is not None:
        path = _given_annotation(root, ann, option)
        role = _role_of(Path(ann)) or split
    else:
        for role in ('train',) if split == 'train' else ('val', 'test'):
            name = _choose_annotation(root, role, found, option)
            if name is not None:
                break
        else:
            raise _not_found(root, split, found)
        path = root / name
    return CocoSplit(
        path, _image_folder(root, path, role, img, f'--{split}-img')
    )


def read_classes(ann_file: str | os.PathLike) -> tuple[str, ...]:
    """The class names of an annotation file, in the file's order.

    Raises:
        DatasetError: There are none, or one comes twice or has no name.
    """
    names = []
    for record in iter_records(ann_file):
        if record.section != 'categories':
            continue
        name = record.value.get('name')
        if not isinstance(name, str) or not name or name in names:
            raise DatasetError(
                f'{ann_file}: categories[{record.index}] must have a name of '
                f'its own, but has {name!r}'
            )
        names.append(name)
    if not names:
        raise DatasetError(f'{ann_file} lists no categories')
    return tuple(names)


def find_coco_splits(
    data_root: str | os.PathLike,
    train_ann: str | None = None,
    val_ann: str | None = None,
    train_img: str | None = None,
    val_img: str | None = None,
) -> CocoSplits:
    """Find what to train and to evaluate on in a COCO-format folder.

    Args:
        data_root: The folder.
        train_ann: Annotation file, where it should not be detected.
        val_ann: Likewise; the training file again to evaluate on that.
            Detected are files of a validation split, else of a test split.
        train_img: Image folder, where it should not be detected.
        val_img: Likewise.

    Raises:
        DatasetError: Something is missing or not clear; tells what was found,
            what is expected and which option decides.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise DatasetError(f'--data-root {root} is no folder')
    found = _find_annotations(root)
    train = _find_split(root, found, 'train', train_ann, train_img)
    val = _find_split(root, found, 'val', val_ann, val_img)
    classes = read_classes(train.ann_file)
    strange = set(read_classes(val.ann_file)) - set(classes)
    if strange:
        raise DatasetError(
            f'{val.ann_file} has categories that {train.ann_file} lacks: '
            f'{", ".join(sorted(strange))}; the training file lists '
            f'{", ".join(classes)}'
        )
    return CocoSplits(train, val, classes)
