"""Folders of data as dicts of their files, for tests of every format.

A file is its text, and None stands for a picture. Each format gives a picture
one box, ``coco_files.BOX``, whose class follows from its name: a, c and e are
cats. Pictures are written in short: 'x/ab y/1.png' is x/a.jpg, x/b.jpg and
y/1.png.
"""

import json
from pathlib import Path

from coco_files import BOX, content, picture

CLASSES = 'cat', 'dog'
XML = """<annotation><folder>x</folder><filename>renamed.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>{}</name><difficult>0</difficult><bndbox>
<xmin>4</xmin><ymin>6</ymin><xmax>24</xmax><ymax>18</ymax></bndbox></object>
</annotation>"""


def tree(root, files):
    """Write the files below a folder."""
    for name, text in files.items():
        path = root / name
        if text is None:
            picture(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def spelled(short):
    """Spell out the paths of pictures that are written in short."""
    paths = []
    for word in short.split():
        folder, slash, names = word.rpartition('/')
        if '.' in names:
            paths.append(word)
        else:
            paths += [f'{folder}{slash}{letter}.jpg' for letter in names]
    return paths


def label_of(path):
    """The class of a picture's box: 0, a cat, or 1, a dog."""
    return 'abcdef'.find(Path(path).name[0].lower()) % 2


def pictures(short):
    """Pictures without labels."""
    return dict.fromkeys(spelled(short))


def coco(short, ann, encoding='utf-8'):
    """Pictures and the COCO file ``ann``, whose ids decrease from 9."""
    names = [Path(path).name for path in spelled(short)]
    boxes = {i: (i, 9 - label_of(n), BOX) for i, n in enumerate(names)}
    lists = content(dict(enumerate(names)), boxes, {9: 'cat', 8: 'dog'})
    return pictures(short) | {ann: json.dumps(lists).encode(encoding)}


def yolo(short='images/abcdef', labels=None):
    """Pictures and YOLO labels, in a folder or where Ultralytics has them."""
    files = {}
    for path in map(Path, spelled(short)):
        folder = labels or str(path.parent).replace('images', 'labels')
        line = f'{label_of(path)} 0.35 0.4 0.5 0.4\n'
        files |= {str(path): None, f'{folder}/{path.stem}.txt': line}
    return files


def voc(
    short='JPEGImages/abcdef', xml='Annotations', text=XML, is_named=False
):
    """Pictures and VOC's files, which name them or another file."""
    files = pictures(short)
    for path in map(Path, files.copy()):
        words = text.format(CLASSES[label_of(path)])
        if is_named:
            words = words.replace('renamed', path.stem)
        files[f'{xml}/{path.stem}.xml'] = words
    return files
