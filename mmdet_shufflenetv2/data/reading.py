"""From a source to boxes that can be trained on, read once in a process.

Each record that cannot be used is left out, named and counted; what only
looks odd is a warning.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

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
_tables: dict[Source, tuple[BoxTable, dict]] = {}


def read_boxes(source: Source) -> BoxTable:
    """The usable boxes of a source, and what was wrong with the others.

    A source is read once in a process, as long as its files are the same,
    whichever part of it is asked for.
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
    """Let a whole table be what :func:`read_boxes` gives for its source."""
    _tables.pop(table.source, None)
    while len(_tables) >= 8:
        del _tables[next(iter(_tables))]
    _tables[table.source] = table, _state(table)


def _state(table: BoxTable) -> dict[str, tuple[int, int]]:
    """Changes when a file of annotations does, or when one is added."""
    files = {table.source.ann, *table.source.images, *table.records}
    paths = files | set(map(os.path.dirname, table.records))
    stats = {path: os.stat(path) for path in paths if os.path.exists(path)}
    return {p: (stat.st_mtime_ns, stat.st_size) for p, stat in stats.items()}


def _choose_images(table: BoxTable) -> BoxTable:
    """Keep the images that the source's list names."""
    listing = Listing(table.source.images)
    place = {path: index for index, path in enumerate(table.files)}
    # There may be masks of the same names.
    paths = listing.paths.items()
    listing.paths = {name: path for name, path in paths if path in place}
    keep, warnings = np.zeros(len(table), bool), deepcopy(table.warnings)
    for chosen in table.source.image_list:
        for line in map(str.strip, read_text(chosen).splitlines()):
            if not line or line[0] == '#':
                continue
            # VOC's lists of one class have a second column.
            words = line, line.split()[0]
            found = [listing.paths.get(plain(word)) for word in words]
            found += [listing.find(word, chosen) for word in words]
            if any(found):
                keep[place[next(filter(None, found))]] = True
            else:
                kind = 'image of the list without annotations, or not there'
                warnings.add(kind, f'{chosen}: {line!r}')
    return replace(table, warnings=warnings).keep_images(keep)


def _without_broken(table: BoxTable) -> BoxTable:
    """Leave out the images that are broken, as far as a look is quick.

    Headers of at most ``HEADERS`` images are read, and all of them decoded
    where they have at most ``DECODED_BYTES``.
    """
    if len(table) > HEADERS or not all(table.files):
        return table
    exif, errors, warnings = table.source.exif, table.errors, table.warnings
    decode = sum(map(os.path.getsize, table.files)) <= DECODED_BYTES

    def look(index: int) -> tuple[str | None, list[str], int]:
        path, notes, error = table.files[index], [], None
        size = tuple(table.sizes[index, ::-1].astype(int))
        try:
            *stored, orientation = image_header(path)
        except DatasetError as problem:
            return str(problem), notes, 1
        if decode:
            error = broken(path, size, exif, notes.append)
        elif set(stored) != set(size):
            error = f'image {path} is {stored}, its annotation says {size}'
        return error, notes, orientation

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(pool.map(look, range(len(table))))
    side = 'as viewers show it; --exif ignore takes the stored pixels'
    side = side if exif == 'apply' else 'as it is stored'
    turned = 'image with an EXIF orientation; boxes are taken to be on the '
    for index, (error, notes, orientation) in enumerate(looks):
        errors.add('broken image; left out', *filter(None, [error]))
        warnings.add('image that is not as it should be', *notes)
        # A size that annotations state tells which way a picture lies.
        stated = table.source.format in ('COCO', 'VOC') and orientation >= 5
        if orientation > 1 and not (stated and np.ptp(table.sizes[index])):
            image = table.describe_image(index)
            warnings.add(f'{turned}picture {side}', f'{image}: {orientation}')
    return table.keep_images(np.array([not e for e, *_ in looks], bool))


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
    said = set() if said is None else said
    wrong = (
        f'{sum(table.errors.counts.values())} records are wrong and were left '
        'out or clipped (--strict stops instead):'
    )
    lines = []
    for what, problems in (wrong, table.errors), ('warnings:', table.warnings):
        pairs = [(table.source.ann, text) for text in problems.texts()]
        texts = [text for ann, text in pairs if (ann, text) not in said]
        said.update(pairs)
        if texts:
            lines.append(f'{table.title}: {what}{"".join(texts)}')
    return lines
