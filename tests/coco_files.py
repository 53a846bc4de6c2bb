"""COCO files with one box per image, and their pictures."""

import json
import os

import cv2
import numpy as np

from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.reading import read_boxes, report

SIX = [f'{letter}.jpg' for letter in 'abcdef']
SIZE, BOX = (40, 30), [4, 6, 20, 12]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))


def content(images, boxes, classes):
    """What a file holds: names, (image, class, box) and names by their ids."""
    width, height = SIZE
    return {
        'images': [
            dict(id=i, file_name=name, width=width, height=height)
            for i, name in images.items()
        ],
        'annotations': [
            dict(
                id=i,
                image_id=image,
                category_id=label,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=0,
            )
            for i, (image, label, box) in boxes.items()
        ],
        'categories': [dict(id=i, name=name) for i, name in classes.items()],
    }


def write_coco(path, names, classes=('cat', 'dog'), first_id=0, **changes):
    """Write a file whose category ids decrease from 9."""
    boxes = {
        first_id + i: (i, 9 - i % len(classes), BOX) for i in range(len(names))
    }
    labels = {9 - i: name for i, name in enumerate(classes)}
    data = content(dict(enumerate(names)), boxes, labels) | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def put(root, ann, img, names=('a.jpg', 'b.jpg'), **options):
    """Write a COCO file and the images it lists."""
    for name in names:
        picture(root / img / name)
    write_coco(root / ann, names, **options)


def read_test(root, **options):
    return read_boxes(find_data(root, ('test',), **options).val)


def check_two_classes(splits, names=('cat', 'dog')):
    """Check that all boxes are right, and the sizes of a divided source."""
    assert splits.classes == tuple(names)
    table = read_boxes(splits.train)
    assert report(table, strict=True) == []
    assert np.allclose(table.boxes, [BOX] * len(table))
    letters = [os.path.basename(name)[0] for name in table.names]
    assert table.labels.tolist() == ['abcdef'.index(c) % 2 for c in letters]
    if splits.train.part:
        assert len(table) == 4
        assert len(read_boxes(splits.val)) == 2
    return table
