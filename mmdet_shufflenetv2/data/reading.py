"""From a source to boxes that can be trained on, read once in a process.

Each record that cannot be used is left out, named and counted; what only
looks odd is a warning.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np

from .coco import read_coco
from .csv_boxes import read_csv
from .images import broken, image_header, image_size
from .listing import Collector, Listing, plain, walk
from .rules import apply_rules
from .split import split_off
from .table import BoxTable, DatasetError, Source, read_text, shorten
from .voc import read_voc
from .yolo import label_folders, read_yolo


def read_images(source: Source) -> BoxTable:
    """Images without any annotations, to predict on."""
    found = Collector(source)
    for name, path in found.listing.paths.items():
        found.add_image(name, path, path)
    return found.table(())


READERS = {
    'COCO': read_coco,
    'YOLO': read_yolo,
    'VOC': read_voc,
    'CSV': read_csv,
    'images': read_images,
}
#: Up to so many images have their headers read, and up to so many bytes of
#: them are decoded, before a run starts.
HEADERS, DECODED_BYTES = 20_000, 256 << 20
#: The last tables, each with the state of its files when it was read.
_tables: dict[Source, tuple[tuple, BoxTable]] = {}


def read_boxes(source: Source) -> BoxTable:
    """The usable boxes of a source, and what was wrong with the others.

    A source is read once in a process, as long as its files are the same.
    """

    def read() -> BoxTable:
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
        return table

    return _once(source, read)


def read_raw(source: Source) -> BoxTable:
    """What a source says, before images are looked for and boxes judged."""
    read = READERS[source.format]
    if source.format != 'COCO':
        return read(source)
    # Its names are asked for before it is known where the images are.
    alone = Source('COCO parsed', source.ann, ())
    table = _once(alone, lambda: read(source))
    errors, warnings = deepcopy((table.errors, table.warnings))
    return replace(table, source=source, errors=errors, warnings=warnings)


def remember(table: BoxTable) -> None:
    """Let a table be what :func:`read_boxes` gives for its source."""
    _keep(table.source, _state(table.source), table)


def _once(source: Source, read: Callable[[], BoxTable]) -> BoxTable:
    state = _state(source)
    if _tables.get(source, (None,))[0] != state:
        _keep(source, state, read())
    return _tables[source][1]


def _keep(source: Source, state: tuple, table: BoxTable) -> None:
    _tables.pop(source, None)
    while len(_tables) >= 16:
        del _tables[next(iter(_tables))]
    _tables[source] = state, table


def _state(source: Source) -> tuple:
    """Changes when a file of annotations does."""
    paths = [source.ann, source.image_list or '', *source.images]
    if source.format == 'YOLO':
        paths += [p for f in source.images for p in label_folders(f)]
    if source.format in ('YOLO', 'VOC'):
        paths += [
            os.path.join(root, folder, name)
            for root in dict.fromkeys(map(str, paths))
            for folder, names in walk(root)
            for name in names
            if name.endswith(('.txt', '.xml', '.yaml'))
        ]
    stats = [os.stat(path) for path in paths if os.path.exists(path)]
    return tuple(
        (stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats
    )


def _find_images(table: BoxTable) -> BoxTable:
    """Fill in ``files``; leave out what is not there."""
    source, listing = table.source, Listing(table.source.images)
    files = [listing.find(name) or '' for name in table.names]
    table.errors.add(
        f'image that is not in {", ".join(source.images)}',
        *(i for i, file in enumerate(files) if not file),
        describe=lambda i: (
            f'images {table.names[i]!r} (id {table.image_ids[i]})'
            + listing.hint(table.names[i])
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
    table = replace(table, files=files)
    return table.keep_images(np.array([bool(file) for file in files], bool))


def _choose_images(table: BoxTable) -> BoxTable:
    """Keep the images that the source's list names."""
    listing = Listing(table.source.images)
    place = {path: index for index, path in enumerate(table.files)}
    keep = np.zeros(len(table), bool)
    for line in read_text(table.source.image_list).splitlines():
        name = line.strip()
        if not name or name.startswith('#'):
            continue
        path = (
            listing.find(name)
            or listing.find_stem(name)
            # VOC's lists of one class have a second column.
            or listing.find_stem(name.split()[0])
        )
        if path in place:
            keep[place[path]] = True
        else:
            table.warnings.add(
                'image of the list without annotations, or not there',
                f'{table.source.image_list}: {name!r}',
            )
    return table.keep_images(keep)


def _with_sizes(table: BoxTable) -> BoxTable:
    """Read the sizes that the annotations lack out of the images."""
    sizes, keep = table.sizes.copy(), np.ones(len(table), bool)
    for index in np.flatnonzero(~(sizes >= 1).all(axis=1)):
        file = table.files[index]
        try:
            if not file:
                raise DatasetError('it has no width and height')
            sizes[index] = image_size(file, table.source.exif)
        except DatasetError as error:
            keep[index] = False
            table.errors.add(
                'image without a width and height of at least 1',
                f'{table.describe_image(index)}: {error}',
            )
    return replace(table, sizes=sizes).keep_images(keep)


def look_at_images(table: BoxTable) -> BoxTable:
    """Leave out the images that are broken, as far as a look is quick.

    Headers of at most ``HEADERS`` images are read, and all of them decoded
    where they have at most ``DECODED_BYTES``.
    """
    if table.looked or len(table) > HEADERS or not all(table.files):
        return table
    exif = table.source.exif
    existing = filter(os.path.exists, table.files)
    decode = sum(map(os.path.getsize, existing)) <= DECODED_BYTES

    def look(index: int) -> tuple[str | None, list[str], int]:
        path = table.files[index]
        size = tuple(table.sizes[index, ::-1].astype(int))
        notes: list[str] = []
        try:
            *stored, orientation = image_header(path)
        except DatasetError as error:
            return str(error), notes, 1
        error = None
        if decode:
            error = broken(path, size, exif, notes.append)
        elif set(stored) != set(size):
            error = f'image {path} is {stored}, its annotation says {size}'
        return error, notes, orientation

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(pool.map(look, range(len(table))))
    keep = np.array([not error for error, *_ in looks], bool)
    which = (
        'the turned picture, as viewers show it (--exif ignore takes the '
        'stored pixels)'
        if exif == 'apply'
        else 'the stored pixels'
    )
    for index, (error, notes, orientation) in enumerate(looks):
        if error:
            table.errors.add('broken image; left out', error)
        for note in notes:
            table.warnings.add('image that is not as it should be', note)
        # A size that annotations state tells which way a picture lies.
        stated = table.source.format in ('COCO', 'VOC') and orientation >= 5
        if orientation > 1 and not (stated and np.ptp(table.sizes[index])):
            table.warnings.add(
                f'image with an EXIF orientation; boxes are taken to be on '
                f'{which}',
                f'{table.describe_image(index)}: {orientation}',
            )
    return replace(table.keep_images(keep), looked=True)


def report(
    table: BoxTable, strict: bool = False, said: set | None = None
) -> list[str]:
    """What was found, in lines for a log; ``strict`` raises instead.

    Args:
        table: The boxes.
        strict: Whether records that were left out are an error.
        said: What was told before, which is added to and not told again:
            both parts of a divided source have what is wrong with the whole.
    """
    if strict and table.errors:
        raise DatasetError(f'{table.title} cannot be used:{table.errors}')
    errors, warnings = table.errors.text(said), table.warnings.text(said)
    lines = []
    if errors:
        lines.append(
            f'{table.title}: {sum(table.errors.counts.values())} records are '
            'wrong and were left out or clipped (--strict stops instead):'
            f'{errors}'
        )
    if warnings:
        lines.append(f'{table.title}: warnings:{warnings}')
    return lines


def count_learned(table: BoxTable) -> int:
    """How many boxes MMDetection trains on."""
    thick = (table.boxes[:, 2:] >= 1).all(axis=1)
    return int((thick & ~table.crowd).sum())


def require_trainable(table: BoxTable) -> None:
    """Refuse to train on nothing; names the likely cause."""
    if count_learned(table):
        return
    cause = 'all boxes are thinner than 1 px, or crowds'
    if not len(table):
        cause = 'no image is left'
    elif not len(table.boxes):
        names = shorten(table.classes) or '(none)'
        cause = f'no box of the classes {names} is left'
    elif (table.boxes <= 1).all():
        cause = (
            'all boxes lie between 0 and 1: they are shares of the image, and '
            f'{table.source.format} has pixels'
        )
    raise DatasetError(
        f'{table.title}: nothing to train on: {cause}{table.errors}'
    )
