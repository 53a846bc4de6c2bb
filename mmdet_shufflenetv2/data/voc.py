"""Pascal VOC's XML: one file per image.

Corners are taken as they are, ``xmax - xmin`` pixels wide: today's tools count
them from 0 and let the upper ones be outside of the box.
"""

import os
from pathlib import Path
from xml.etree import ElementTree

from .images import image_size
from .listing import Listing, walk
from .table import BoxTable, DatasetError, Problems, Source, assemble

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def read_voc(source: Source) -> BoxTable:
    """Read every XML file below a folder.

    Classes are numbered as they first appear, files by their names, unless a
    ``labelmap.txt`` or ``classes.txt`` lists them.

    Raises:
        DatasetError: There is no XML file.
    """
    problems, warnings = Problems(), Problems()
    listing = Listing(source.images)
    classes = _listed_classes(source)
    images, rows, owners = [], [], {}
    files = [
        os.path.join(source.ann, folder, name)
        for folder, names in walk(source.ann)
        for name in names
        if name.lower().endswith('.xml')
    ]
    if not files:
        raise DatasetError(f'{source.ann} holds no XML file')
    for file in files:
        try:
            root = _parse(file)
        except DatasetError as error:
            problems.add('XML file that cannot be read', str(error))
            continue
        name = (root.findtext('filename') or '').strip()
        # Many tools leave the name of a file as it was before it was renamed.
        path = listing.find_stem(Path(file).stem) or listing.find(name)
        if path is None:
            problems.add(
                'image that is not there',
                f'{file}: {name!r}{listing.hint(name)}',
            )
            continue
        if path in owners:
            problems.add(
                'image with two XML files', f'{path}: {owners[path]}, {file}'
            )
            continue
        owners[path] = file
        try:
            width, height = _size(root) or image_size(path, source.exif)
        except DatasetError as error:
            problems.add('broken image; left out', str(error))
            continue
        for number, item in enumerate(root.iter('object'), 1):
            try:
                label, box, crowd = _object(item)
            except ValueError as error:
                problems.add(
                    'object without a name or 4 corners',
                    f'{file}, object {number}: {error}',
                )
                continue
            label = classes.setdefault(label, len(classes))
            rows.append((len(images), number, label, *box, crowd))
            if crowd:
                warnings.add(
                    "object marked 'difficult'; neither learned nor counted",
                    f'{file}, object {number}',
                )
        images.append((os.path.basename(path), path, width, height, file))
    return assemble(source, list(classes), images, rows, problems, warnings)


def _listed_classes(source: Source) -> dict[str, int]:
    """Classes in the order of a list, where there is one."""
    for folder in (Path(source.ann), Path(source.ann).parent):
        for name in 'labelmap.txt', 'classes.txt':
            if (folder / name).is_file():
                lines = (folder / name).read_text('utf-8-sig').splitlines()
                # CVAT's: label:color_rgb:parts:actions
                found = [line.partition(':')[0].strip() for line in lines]
                found = [
                    label
                    for label in found
                    if label and label[0] != '#' and label != 'background'
                ]
                return {label: i for i, label in enumerate(found)}
    return {}


def _parse(file: str) -> ElementTree.Element:
    try:
        content = Path(file).read_bytes()
        # What entities unfold to may fill the memory.
        root = None if b'<!ENTITY' in content else ElementTree.XML(content)
    except OSError as error:
        raise DatasetError(f'{file}: {error.strerror}') from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DatasetError(f'{file}: {error}') from error
    if root is None:
        raise DatasetError(f'{file}: XML entities are refused')
    if root.tag != 'annotation':
        raise DatasetError(f'{file}: expected <annotation>, got <{root.tag}>')
    return root


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    """Width and height, None where a tool wrote 0 or nothing."""
    try:
        width = float(root.findtext('size/width') or 0)
        height = float(root.findtext('size/height') or 0)
    except ValueError:
        return None
    return (width, height) if width >= 1 and height >= 1 else None


def _object(item: ElementTree.Element) -> tuple[str, list[float], bool]:
    name = (item.findtext('name') or '').strip()
    if not name:
        raise ValueError('it has no name')
    corners = []
    for corner in _CORNERS:
        text = item.findtext(f'bndbox/{corner}')
        if text is None:
            raise ValueError(f'it has no {corner}')
        corners.append(float(text))
    x1, y1, x2, y2 = corners
    difficult = (item.findtext('difficult') or '0').strip()
    return name, [x1, y1, x2 - x1, y2 - y1], difficult not in ('0', 'false')
