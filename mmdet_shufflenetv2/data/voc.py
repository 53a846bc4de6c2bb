"""Pascal VOC's XML: one file per image.

Corners are taken as they are, ``xmax - xmin`` pixels wide: today's tools count
them from 0 and let the upper ones be outside of the box.
"""

import os
from pathlib import Path
from xml.etree import ElementTree

from .listing import Collector, walk
from .table import BoxTable, DatasetError, Source


def read_voc(source: Source) -> BoxTable:
    """Read every XML file below a folder; classes are numbered as they first
    appear, files by their names.
    """
    found = Collector(source)
    classes: dict[str, int] = {}
    owners: dict[str, str] = {}
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
        except (OSError, SyntaxError, LookupError, ValueError) as error:
            kind = 'XML file that cannot be read'
            found.errors.add(kind, f'{file}: {error}')
            continue
        name = (root.findtext('filename') or '').strip()
        # Many tools leave the name of a file as it was before it was renamed.
        path = found.listing.find(Path(file).stem) or found.listing.find(name)
        if path is None or owners.setdefault(path, file) != file:
            told = f'{owners[path]} is of {path} too' if path else repr(name)
            kind = 'XML file without an image of its own'
            found.errors.add(kind, f'{file}: {told}')
            continue
        name = os.path.basename(path)
        image = found.add_image(name, path, file, _size(root))
        items = root.iter('object') if image is not None else ()
        for number, item in enumerate(items, 1):
            where = f'{file}, object {number}'
            try:
                label, box, crowd = _object(item)
            except ValueError as error:
                kind = 'object without a name or 4 corners'
                found.errors.add(kind, f'{where}: {error}')
                continue
            if crowd:
                kind = "object marked 'difficult'; neither learned nor counted"
                found.warnings.add(kind, where)
            label = classes.setdefault(label, len(classes))
            found.add_box(image, number, label, box, crowd)
    return found.table(list(classes))


def _parse(file: str) -> ElementTree.Element:
    content = Path(file).read_bytes()
    # What entities unfold to may fill the memory.
    root = None if b'<!ENTITY' in content else ElementTree.XML(content)
    if root is None or root.tag != 'annotation':
        raise ValueError('expected <annotation>, and no XML entities')
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
    """Name, box, and whether it is difficult."""
    name = (item.findtext('name') or '').strip()
    corners = 'xmin', 'ymin', 'xmax', 'ymax'
    texts = [item.findtext(f'bndbox/{corner}') or '' for corner in corners]
    if not name:
        raise ValueError('it has no name')
    x1, y1, x2, y2 = map(float, texts)
    hard = (item.findtext('difficult') or '0').strip() not in ('0', 'false')
    return name, [x1, y1, x2 - x1, y2 - y1], hard
