"""Reading the usable boxes of a source, once per process.

Each unusable record is left out, named and counted; a record that is merely
odd is kept with a warning.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from itertools import chain

import numpy as np

from .coco import read_coco
from .csv_boxes import read_csv
from .images import broken, image_header
from .listing import Collector, Listing, plain
from .rules import apply_rules
from .split import images_of_part
from .table import BoxTable, DatasetError, Source, read_text
from .voc import read_voc
from .yolo import read_yolo


def read_images(source: Source) -> BoxTable:
    """List images without annotations, to predict on."""
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
#: Image headers are checked before a run if there are at most this many
#: images; images are decoded if their files have at most this many bytes.
HEADERS, DECODED_BYTES = 20_000, 256 << 20
#: The most recent tables, each with the state of its files when it was read.
_tables: dict[Source, tuple[BoxTable, dict]] = {}


def read_boxes(source: Source) -> BoxTable:
    """Read the usable boxes of a source and what is wrong with the others.

    All parts of a source share one cached table, which is read again only
    after a file has changed.
    """
    whole = source._replace(image_list=(), part=None)
    table, state = _tables.get(whole, (None, None))
    if table is None or state != _state(table):
        table = READERS[source.format](whole)
        table = _without_broken(apply_rules(table))
        remember(table)
    table = replace(table, source=source)
    if source.image_list:
        table = _choose_images(table)
    if source.part:
        table = table.keep_images(images_of_part(table, *source.part))
    return table


def remember(table: BoxTable) -> None:
    """Cache the table of an undivided source for :func:`read_boxes`."""
    _tables.pop(table.source, None)
    while len(_tables) >= 8:
        del _tables[next(iter(_tables))]
    _tables[table.source] = table, _state(table)


def _state(table: BoxTable) -> dict[str, tuple[int, int]]:
    """Return stats that change if an annotation file changes or is added."""
    files = {table.source.ann, *table.source.images, *table.records}
    paths = files | set(map(os.path.dirname, table.records))
    stats = {path: os.stat(path) for path in paths if os.path.exists(path)}
    return {p: (stat.st_mtime_ns, stat.st_size) for p, stat in stats.items()}


def _choose_images(table: BoxTable) -> BoxTable:
    """Keep the images that are on the source's lists."""
    listing = Listing(table.source.images)
    index_of = {path: index for index, path in enumerate(table.files)}
    # Leave out files that are not in the table, such as masks named alike.
    paths = listing.paths.items()
    listing.paths = {name: path for name, path in paths if path in index_of}
    keep, warnings = np.zeros(len(table), bool), deepcopy(table.warnings)
    for file in table.source.image_list:
        for line in map(str.strip, read_text(file).splitlines()):
            # Lists of older versions begin with the name of the source.
            if not line or line.startswith('# images of '):
                continue
            # VOC's per-class lists have a second column.
            names = dict.fromkeys((line, line.split()[0]))
            exact = (listing.paths.get(plain(name)) for name in names)
            alike = (listing.find(name, file) for name in names)
            if found := next(filter(None, chain(exact, alike)), None):
                keep[index_of[found]] = True
            else:
                kind = 'listed image that is missing or has no annotations'
                warnings.add(kind, f'{file}: {line!r}')
    return replace(table, warnings=warnings).keep_images(keep)


def _without_broken(table: BoxTable) -> BoxTable:
    """Leave out broken images, as far as they can be found quickly."""
    if len(table) > HEADERS or not all(table.files):
        return table
    exif, errors, warnings = table.source.exif, table.errors, table.warnings
    decode = sum(map(os.path.getsize, table.files)) <= DECODED_BYTES

    def check(index: int) -> tuple[str | None, list[str], int]:
        path, notes, error = table.files[index], [], None
        size = table.shape(index)
        try:
            *stored, orientation = image_header(path)
        except DatasetError as problem:
            return str(problem), notes, 1
        if decode:
            error = broken(path, size, exif, notes.append)
        elif set(stored) != set(size):
            error = (
                f'image {path} is {stored[0]} x {stored[1]} (width x height), '
                f'but its annotation says {size[1]} x {size[0]}'
            )
        return error, notes, orientation

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = list(pool.map(check, range(len(table))))
    turned = 'image with an EXIF orientation; boxes are assumed to refer to '
    if exif == 'apply':
        turned += 'the turned picture; --exif ignore uses the stored pixels'
    else:
        turned += 'the stored pixels'
    for index, (error, notes, orientation) in enumerate(checks):
        errors.add('broken image; left out', *filter(None, [error]))
        warnings.add('damaged or unusual image', *notes)
        # If EXIF swaps the sides, the stated size tells which image is meant.
        stated = table.source.format in ('COCO', 'VOC') and orientation >= 5
        if orientation > 1 and not (stated and np.ptp(table.sizes[index])):
            image = table.describe_image(index)
            warnings.add(turned, f'{image}: {orientation}')
    return table.keep_images(np.array([not e for e, *_ in checks], bool))


def report(
    table: BoxTable, strict: bool = False, said: set | None = None
) -> list[str]:
    """Describe the problems of a table in lines for a log.

    Args:
        table: The boxes.
        strict: Raise a ``DatasetError`` if there are errors.
        said: Messages to leave out because they were logged before; new ones
            are added. Both parts of a divided source have the same problems.
    """
    if strict and table.errors:
        raise DatasetError(f'{table.title} cannot be used:{table.errors}')
    said = set() if said is None else said
    wrong = (
        f'{sum(table.errors.counts.values())} invalid records were left out '
        'or clipped (--strict stops instead):'
    )
    lines = []
    for what, problems in (wrong, table.errors), ('warnings:', table.warnings):
        pairs = [(table.source.ann, text) for text in problems.texts()]
        texts = [text for ann, text in pairs if (ann, text) not in said]
        said.update(pairs)
        if texts:
            lines.append(f'{table.title}: {what}{"".join(texts)}')
    return lines
