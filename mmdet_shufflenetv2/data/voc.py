"""Pascal VOC XML: one file per image.

A box is ``xmax - xmin`` pixels wide: today's tools count pixels from 0 and
treat the upper corner as exclusive.
"""

import math
import os
import re
from pathlib import Path
from xml.etree import ElementTree

from .listing import Collector, plain, walk
from .table import BoxTable, DatasetError, Source, box_around, decode_text


def read_voc(source: Source) -> BoxTable:
    """Read all XML files below a folder; number classes as they appear."""
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
        root = None
        with found.rejecting('XML file that cannot be read', file):
            root = _parse(file)
        if root is None:
            continue
        name = (root.findtext('filename') or '').strip()
        # The XML file's own name wins: tools often leave <filename> outdated.
        stem = os.path.splitext(os.path.relpath(file, source.ann))[0]
        named_stem, suffix = os.path.splitext(plain(name).rpartition('/')[2])
        if named_stem.casefold() != os.path.basename(stem).casefold():
            suffix = ''
        path = found.listing.find(stem + suffix, file)
        path = path or found.listing.find(stem, file)
        named = found.listing.find(name, file)
        if path and named and path != named:
            found.warnings.add(
                'XML file that names an image other than its namesake',
                f'{file}: {name!r}, using {path}',
            )
        path = path or named
        if path is None or owners.setdefault(path, file) != file:
            why = f'{path} belongs to {owners[path]}' if path else repr(name)
            kind = 'XML file without an image of its own'
            found.errors.add(kind, f'{file}: {why}')
            continue
        name = os.path.basename(path)
        image = found.add_image(name, path, file, _size(root))
        # Prefer top-level objects: their parts may be objects themselves.
        items = root.findall('object') or root.iter('object')
        for number, item in enumerate(items if image is not None else (), 1):
            where = f'{file}, object {number}'
            with found.rejecting('object without a name or a box', where):
                label, box = _name(item), _box(item)
                text = (item.findtext('difficult') or '').strip().lower()
                difficult = text in ('1', 'true', 'yes')
                if difficult:
                    kind = "object marked 'difficult'; ignored in training"
                    found.warnings.add(f'{kind} and evaluation', where)
                label = classes.setdefault(label, len(classes))
                found.add_box(image, number, label, box, difficult)
    return found.table(list(classes))


def _parse(file: str) -> ElementTree.Element:
    content = Path(file).read_bytes()
    # Decode here: the parser does not know all encodings, such as GBK.
    code = re.match(rb'<\?xml[^>]* encoding=.([\w-]+)', content)
    text = content.decode(code[1].decode()) if code else decode_text(content)
    if '<!ENTITY' in text:
        # Their expansion may fill the memory.
        raise ValueError('it has XML entities, which are not supported')
    root = ElementTree.XML(text)
    for item in root.iter():
        item.tag = str(item.tag).rpartition('}')[2]
    if root.tag != 'annotation':
        raise ValueError(
            f'expected <annotation>, got <{root.tag}>; from other formats '
            '(such as CVAT for images) export COCO, YOLO or VOC'
        )
    return root


def _size(root: ElementTree.Element) -> list[float] | None:
    """Return width and height; None if the file states none, or 0."""
    sides = [root.findtext(f'size/{side}') for side in ('width', 'height')]
    try:
        size = [float(side or 0) for side in sides]
    except ValueError:
        return None
    return size if min(size) >= 1 else None


def _name(item: ElementTree.Element) -> str:
    if name := (item.findtext('name') or '').strip():
        return name
    raise ValueError('it has no name')


def _box(item: ElementTree.Element) -> list[float]:
    """Return the box of an object, or around its rotated box or polygon."""

    def numbers(place: str, names: str) -> list[float] | None:
        texts = [item.findtext(f'{place}/{name}') for name in names.split()]
        return None if None in texts else list(map(float, texts))

    if box := numbers('bndbox', 'xmin ymin xmax ymax'):
        x1, y1, x2, y2 = box
        return [x1, y1, x2 - x1, y2 - y1]
    if box := numbers('robndbox', 'cx cy w h angle'):
        x, y, width, height, angle = box
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        width, height = width * cos + height * sin, width * sin + height * cos
        return [x - width / 2, y - height / 2, width, height]
    tags = [(re.sub(r'\d', '', each.tag), each.text) for each in item.iter()]
    xs, ys = (
        [float(text) for tag, text in tags if tag == axis] for axis in 'xy'
    )
    if len(xs) != len(ys) or len(xs) < 2:
        raise ValueError('expected xmin, ymin, xmax and ymax, or a polygon')
    return box_around(list(zip(xs, ys, strict=True)))
