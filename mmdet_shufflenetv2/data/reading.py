"""From a source to boxes that can be trained on, read once in a process.

Each record that cannot be used is left out, named and counted; what only
looks odd is a warning. MMDetection leaves boxes out without a word when they
are thinner than one pixel, lie outside the image or have an ``area`` of zero.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .coco import read_coco
from .csv_boxes import read_csv
from .images import broken, image_header, image_size
from .listing import Listing, plain, walk
from .split import split_off
from .table import (
    BoxTable,
    DatasetError,
    Problems,
    Source,
    assemble,
    read_text,
    shorten,
)
from .voc import read_voc
from .yolo import label_folders, read_yolo


def read_images(source: Source) -> BoxTable:
    """Images without any annotations, to predict on."""
    problems = Problems()
    images = []
    for name, path in Listing(source.images).paths.items():
        try:
            size = image_size(path, source.exif)
        except DatasetError as error:
            problems.add('broken image; left out', str(error))
            continue
        images.append((name, path, *size, path))
    return assemble(source, (), images, (), problems)


READERS = {
    'COCO': read_coco,
    'YOLO': read_yolo,
    'VOC': read_voc,
    'CSV': read_csv,
    'images': read_images,
}
#: COCO's boxes pass the image's border by rounding, other tools' boxes by a
#: pixel or two (inclusive corners); MMDetection clips both when it resizes.
BORDER_TOLERANCE_PX = 2.0
#: (annotation id, image id, box) of the two flat boxes of COCO's training
#: images, known since their publication (cocoapi issue 355).
COCO_FLAT_BOXES = (
    (918, 200365, (296.65, 388.33, 1.03, 0.0)),
    (2206849, 550395, (9.98, 188.56, 5.54, 0.0)),
)
#: Up to so many images have their headers read, and up to so many bytes of
#: them are decoded, before a run starts.
HEADERS, DECODED_BYTES = 20_000, 256 << 20


class BoxRule(NamedTuple):
    """``effect`` is 'drop' or 'clip' for an error, 'keep' for a warning."""

    what: str
    effect: str


#: In this order: the first rule that a box breaks is the one it is under.
RULES = {
    'coco_flat': BoxRule('flat box that COCO is known for', 'keep'),
    'not_finite': BoxRule('box with NaN or infinity', 'drop'),
    'negative': BoxRule('box of negative width or height', 'drop'),
    'empty': BoxRule('box of zero width or height', 'drop'),
    'outside': BoxRule('box wholly outside its image', 'drop'),
    'beyond': BoxRule(
        f'box more than {BORDER_TOLERANCE_PX:g} px beyond its image', 'clip'
    ),
    'thin': BoxRule('box thinner than 1 px; left out in training', 'keep'),
    'border': BoxRule(
        f'box up to {BORDER_TOLERANCE_PX:g} px beyond its image; clipped in '
        'training',
        'keep',
    ),
}
_DONE = {'drop': 'left out', 'clip': 'clipped'}

_parsed: dict[str, tuple[tuple, BoxTable]] = {}
_remembered: dict[Source, tuple[tuple, BoxTable]] = {}


def read_boxes(source: Source) -> BoxTable:
    """The usable boxes of a source, and what was wrong with the others.

    A source is read once in a process, as long as its files are the same.

    Raises:
        DatasetError: It cannot be read as what it is said to be.
    """
    state = _state(source)
    if source in _remembered and _remembered[source][0] == state:
        return _remembered[source][1]
    table = read_raw(source)
    if source.images and source.format == 'COCO':
        table = _find_images(table)
    if source.image_list:
        table = _choose_images(table)
    table = apply_rules(_with_sizes(table))
    if source.part:
        name, share, seed = source.part
        apart = split_off(table, share, seed)
        table = table.keep_images(apart if name == 'val' else ~apart)
    remember(table)
    return table


def read_raw(source: Source) -> BoxTable:
    """What a source says, before images are looked for and boxes judged.

    Raises:
        DatasetError: It cannot be read as what it is said to be.
    """
    if source.format != 'COCO':
        return READERS[source.format](source)
    # Its names are asked for before it is known where the images are.
    state = _state(Source(source.format, source.ann, ()))
    if _parsed.get(source.ann, (None,))[0] != state:
        _keep(_parsed, source.ann, (state, read_coco(source)))
    table = _parsed[source.ann][1]
    return replace(
        table,
        source=source,
        errors=deepcopy(table.errors),
        warnings=deepcopy(table.warnings),
        sizes=table.sizes.copy(),
        boxes=table.boxes.copy(),
        area=table.area.copy(),
    )


def remember(table: BoxTable) -> None:
    """Let a table be what :func:`read_boxes` gives for its source."""
    _keep(_remembered, table.source, (_state(table.source), table))


def _keep(kept: dict, key, value, most: int = 8) -> None:
    kept.pop(key, None)
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def _state(source: Source) -> tuple:
    """Changes when a file of annotations does."""
    paths = [source.ann, source.image_list, *source.images]
    if source.format in ('YOLO', 'VOC'):
        folders = {source.ann, *source.images}
        if source.format == 'YOLO':
            for folder in source.images:
                folders.update(map(str, label_folders(folder)))
        paths += [
            os.path.join(root, folder, name)
            for root in sorted(filter(os.path.isdir, folders))
            for folder, names in walk(root)
            for name in names
            if name.endswith(('.txt', '.xml', '.yaml'))
        ]
    found = []
    for path in filter(None, paths):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        found.append((path, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _find_images(table: BoxTable) -> BoxTable:
    """Fill in ``files``; leave out what is not there."""
    source, listing = table.source, Listing(table.source.images)
    files = [listing.find(name) or '' for name in table.names]
    lost = [i for i, file in enumerate(files) if not file]
    where = ', '.join(source.images)
    table.errors.add_all(
        f'image that is not in {where}',
        len(lost),
        lambda at: (
            f'images {table.names[lost[at]]!r} (id '
            f'{table.image_ids[lost[at]]}){listing.hint(table.names[lost[at]])}'
        ),
    )
    owners: dict[str, list[int]] = {}
    for index, file in enumerate(files):
        owners.setdefault(file, []).append(index)
    owners.pop('', None)
    for file, several in owners.items():
        names = {table.names[index] for index in several}
        if len(names) > 1:
            # Only one of them can be it: that of this very name, if any.
            for index in several:
                if plain(table.names[index]) not in listing.paths:
                    files[index] = ''
            kind = 'names that end alike where there is one image; left out'
            table.errors.add(kind, f'{shorten(sorted(names))}: {file}')
        elif len(several) > 1:
            table.warnings.add('image that is listed twice', file)
    table.files = files
    return table.keep_images(np.array([bool(file) for file in files], bool))


def _choose_images(table: BoxTable) -> BoxTable:
    """Keep the images that the source's list names."""
    listing = Listing(table.source.images)
    place = {path: index for index, path in enumerate(table.files)}
    chosen = []
    for line in read_text(table.source.image_list).splitlines():
        # VOC's lists of one class have a second column.
        name = line.strip()
        if not name or name.startswith('#'):
            continue
        path = (
            listing.find(name)
            or listing.find_stem(name)
            or listing.find_stem(name.split()[0])
        )
        if path in place:
            chosen.append(place[path])
        else:
            table.warnings.add(
                'image of the list without annotations, or not there',
                f'{table.source.image_list}: {name!r}',
            )
    return table.keep_images(np.array(sorted(set(chosen)), int))


def _with_sizes(table: BoxTable) -> BoxTable:
    """Read the sizes that the annotations lack out of the images."""
    unknown = ~(table.sizes >= 1).all(axis=1)
    keep = np.ones(len(table), bool)
    for index in np.flatnonzero(unknown):
        try:
            if not table.files[index]:
                raise DatasetError('it has no width and height')
            table.sizes[index] = image_size(
                table.files[index], table.source.exif
            )
        except DatasetError as error:
            keep[index] = False
            table.errors.add(
                'image without a width and height of at least 1',
                f'{table.describe_image(index)}: {error}',
            )
    return table.keep_images(keep)


def classify_boxes(table: BoxTable) -> dict[str, np.ndarray]:
    """For every rule the indices of the boxes that break it first."""
    boxes, sizes = table.boxes, table.sizes[table.image]
    x, y, width, height = boxes.T
    low = np.minimum(width, height)
    known = np.zeros(len(boxes), bool)
    for ann_id, image_id, box in COCO_FLAT_BOXES:
        same = (table.ids == ann_id) & (boxes == box).all(axis=1)
        known |= same & (table.image_ids[table.image] == image_id)
    with np.errstate(invalid='ignore', over='ignore'):
        over_x = np.maximum(-x, x + width - sizes[:, 0])
        over_y = np.maximum(-y, y + height - sizes[:, 1])
        over = np.maximum(over_x, over_y)
        seen = np.minimum(
            np.minimum(x + width, sizes[:, 0]) - np.maximum(x, 0),
            np.minimum(y + height, sizes[:, 1]) - np.maximum(y, 0),
        )
    breaks = {
        'coco_flat': known,
        'not_finite': ~np.isfinite(boxes).all(axis=1),
        'negative': low < 0,
        'empty': low == 0,
        'outside': seen <= 0,
        'beyond': over > BORDER_TOLERANCE_PX,
        'thin': low < 1,
        'border': over > 0,
    }
    free = np.ones(len(boxes), bool)
    found = {}
    for rule in RULES:
        found[rule] = np.flatnonzero(breaks[rule] & free)
        free &= ~breaks[rule]
    return found


def apply_rules(table: BoxTable) -> BoxTable:
    """Drop, clip or only name the boxes that break a rule."""
    found = classify_boxes(table)
    _refuse_corners(table, len(found['beyond']) + len(found['outside']))
    keep = np.ones(len(table.boxes), bool)
    for rule, at in found.items():
        what, effect = RULES[rule]
        target = table.warnings if effect == 'keep' else table.errors
        kind = what if effect == 'keep' else f'{what}; {_DONE[effect]}'
        target.add_all(
            kind,
            len(at),
            lambda i, at=at: table.describe_box(at[i]),
            lambda i, at=at: (
                table.files[table.image[at[i]]],
                table.boxes[at[i]].tolist(),
            ),
        )
        if effect == 'drop':
            keep[at] = False
        elif effect == 'clip':
            size = table.sizes[table.image[at]]
            low = np.clip(table.boxes[at, :2], 0, size)
            high = np.clip(table.boxes[at, :2] + table.boxes[at, 2:], 0, size)
            table.boxes[at] = np.concatenate([low, high - low], axis=1)
            table.area[at] = np.minimum(
                table.area[at], (high - low).prod(axis=1)
            )
    return table.keep_boxes(keep)


def _refuse_corners(table: BoxTable, over: int) -> None:
    """Tell boxes that are not x, y, width, height from a few wrong ones.

    Raises:
        DatasetError: Most reach beyond their images, and would not as corners.
    """
    if 2 * over <= len(table.boxes):
        return
    corners, sizes = table.boxes, table.sizes[table.image]
    fits = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    fits &= (corners[:, 2:] <= sizes + BORDER_TOLERANCE_PX).all(axis=1)
    if fits.all():
        raise DatasetError(
            f'{table.title}: {over} of {len(corners)} boxes reach beyond '
            'their images; all would fit as x1, y1, x2, y2, but expected are '
            f'x, y, width, height: {table.describe_box(0)}'
        )


def look_at_images(table: BoxTable) -> BoxTable:
    """Leave out the images that are broken, as far as a look is quick.

    Headers of at most ``HEADERS`` images are read, and all of them decoded
    where they have at most ``DECODED_BYTES``.
    """
    if table.looked or len(table) > HEADERS or not all(table.files):
        return table
    size = sum(map(_bytes, table.files))
    look = _decoded if size <= DECODED_BYTES else _header
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(
            pool.map(
                lambda index: look(
                    table.files[index],
                    tuple(table.sizes[index, ::-1].astype(int)),
                    table.source.exif,
                ),
                range(len(table)),
            )
        )
    keep = np.ones(len(table), bool)
    for index, (error, notes, orientation) in enumerate(looks):
        if error:
            keep[index] = False
            table.errors.add('broken image; left out', error)
        for note in notes:
            table.warnings.add('image that is not as it should be', note)
        # A size that annotations state tells which way a picture lies.
        stated = table.source.format in ('COCO', 'VOC') and orientation >= 5
        if orientation > 1 and not (stated and np.ptp(table.sizes[index])):
            table.warnings.add(
                'image with an EXIF orientation; boxes are taken to be on '
                + (
                    'the turned picture, as viewers show it (--exif ignore '
                    'takes the stored pixels)'
                    if table.source.exif == 'apply'
                    else 'the stored pixels'
                ),
                f'{table.describe_image(index)}: {orientation}',
            )
    return replace(table.keep_images(keep), looked=True)


def _bytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _header(path: str, size, exif: str) -> tuple[str | None, list[str], int]:
    """What is wrong with an image, what was made up for, its orientation."""
    try:
        width, height, orientation = image_header(path)
    except DatasetError as error:
        return str(error), [], 1
    if size in ((height, width), (width, height)):
        return None, [], orientation
    return (
        (
            f'image {path} is {width} x {height} (width x height), but its '
            f'annotation says {size[1]} x {size[0]}'
        ),
        [],
        1,
    )


def _decoded(path: str, size, exif: str) -> tuple[str | None, list[str], int]:
    notes: list[str] = []
    error, _, orientation = _header(path, size, exif)
    error = error or broken(path, size, exif, notes.append)
    return error, notes, orientation


def report(
    table: BoxTable, strict: bool = False, said: set | None = None
) -> list[str]:
    """What was found, in lines for a log.

    Args:
        table: The boxes.
        strict: Raise instead of leaving records out.
        said: What was told before, which is added to and not told again:
            both parts of a divided source have what is wrong with the whole.

    Raises:
        DatasetError: Records were left out, and ``strict`` forbids it.
    """
    if strict and table.errors:
        raise DatasetError(f'{table.title} cannot be used:{table.errors}')
    said = set() if said is None else said
    errors, warnings = table.errors.besides(said), table.warnings.besides(said)
    lines = []
    if errors:
        count = sum(errors.counts.values())
        lines.append(
            f'{table.title}: {count} records are wrong and were left out or '
            f'clipped (--strict stops instead):{errors}'
        )
    if warnings:
        lines.append(f'{table.title}: warnings:{warnings}')
    return lines


def require_trainable(table: BoxTable) -> None:
    """Refuse to train on nothing.

    Raises:
        DatasetError: No box is left; names the likely cause.
    """
    thick = (table.boxes[:, 2:] >= 1).all(axis=1) & ~table.crowd
    if thick.any():
        return
    if not len(table):
        cause = 'no image is left'
    elif len(table.boxes) and (table.boxes <= 1).all():
        cause = (
            'all boxes lie between 0 and 1: they are shares of the image, and '
            f'{table.source.format} has pixels'
        )
    elif len(table.boxes):
        cause = 'all boxes are thinner than 1 px, or crowds'
    else:
        cause = (
            f'no box of the classes {shorten(table.classes) or "(none)"} is '
            'left'
        )
    raise DatasetError(
        f'{table.title}: nothing to train on: {cause}{table.errors}'
    )
