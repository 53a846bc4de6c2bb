"""A small folder in COCO format, which tests spoil in one way each."""

import json

import cv2
import numpy as np
import pytest
from coco_files import content

from mmdet_shufflenetv2.data.reading import read_boxes
from mmdet_shufflenetv2.data.table import Source


class CocoFolder:
    """``data`` is the content of ``ann_file``; ``write`` stores it."""

    def __init__(self, root):
        self.root = root
        self.img_dir = root / 'images'
        self.ann_file = root / 'ann.json'
        self.data = content(
            {7 + i: f'{i}.png' for i in range(3)},
            {
                100 + i: (7 + i % 2, 3 + i % 2, [2 + i, 3, 10, 8])
                for i in range(4)
            },
            {3: 'cat', 4: 'dog'},
        )

    def write(self):
        self.img_dir.mkdir(parents=True, exist_ok=True)
        for image in self.data['images']:
            picture = np.zeros((image['height'], image['width'], 3), np.uint8)
            cv2.imwrite(str(self.img_dir / image['file_name']), picture)
        self.save()
        return self

    def save(self):
        self.ann_file.parent.mkdir(parents=True, exist_ok=True)
        self.ann_file.write_text(json.dumps(self.data))
        return self.ann_file

    def read(self):
        """Save, then read the table of boxes."""
        source = Source('COCO', str(self.save()), (str(self.img_dir),))
        return read_boxes(source)


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path / 'set').write()
