import json

import cv2
import numpy as np
import pytest

from mmdet_shufflenetv2.data.coco_splits import prepare
from mmdet_shufflenetv2.data.table import DatasetError

TRAIN, VAL, MINIVAL = range(1, 8), range(8, 14), range(9, 12)
NAMES = {'2014': 'COCO_{}_{:012d}.jpg', '2017': '{1:012d}.jpg'}
SIZES = dict(width=9, height=9)
MADE = ('trainvalminusminival2014', 'minival2014')


def content(ids, folder, year):
    return {
        'info': {'year': int(year)},
        'images': [
            dict(id=i, file_name=NAMES[year].format(folder, i), **SIZES)
            for i in ids
        ],
        'annotations': [
            dict(id=10 * i + k, image_id=i, category_id=1, bbox=[1, 2, 3, 4.5])
            for k in range(2)
            for i in ids
        ],
        'categories': [{'id': 1, 'name': 'person'}],
    }


class Root:
    """A tiny COCO folder; ``prepare`` first writes ``data``."""

    def __init__(self, path):
        self.path = path
        (path / 'annotations').mkdir()
        rest = [i for i in VAL if i not in MINIVAL]
        self.data = {
            'train2014': content(TRAIN, 'train2014', '2014'),
            'val2014': content(VAL, 'val2014', '2014'),
            'train2017': content([*TRAIN, *rest], 'train2017', '2017'),
            'val2017': content(MINIVAL, 'val2017', '2017'),
        }
        for folder, data in self.data.items():
            (path / folder).mkdir()
            for image in data['images']:
                picture = np.zeros((9, 9, 3), np.uint8)
                cv2.imwrite(str(path / folder / image['file_name']), picture)

    def ann(self, name):
        return self.path / 'annotations' / f'instances_{name}.json'

    def prepare(self):
        for name, data in self.data.items():
            self.ann(name).write_text(json.dumps(data))
        return prepare(self.path, self.ann('val2017'), counts=(10, 3))

    def read(self, name):
        return json.loads(self.ann(name).read_text())


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


def test_2014_splits_equal_the_2017_splits(root):
    assert root.prepare() == '2014'
    for made, same in zip(MADE, ('train2017', 'val2017'), strict=True):
        made, same = root.read(made), root.data[same]
        for section in ('images', 'annotations'):
            ids, expected = (
                sorted(record['id'] for record in data[section])
                for data in (made, same)
            )
            assert ids == expected
        assert made['categories'] == same['categories']
        assert made['info'] == {'year': 2014}


def spoil_count(root):
    del root.data['train2014']['images'][0]
    del root.data['train2014']['annotations'][0]
    del root.data['train2014']['annotations'][6]


def spoil_file(root):
    (root.path / 'val2014' / 'COCO_val2014_000000000009.jpg').unlink()


def spoil_minival(root):
    root.data['val2017']['images'][0]['id'] = 500


def spoil_categories(root):
    root.data['val2014']['categories'][0]['name'] = 'cat'


@pytest.mark.parametrize(
    'spoil, message',
    [
        (spoil_count, 'expected 10 images with boxes, got 9 images'),
        (spoil_file, r'not found .*\n.*val2014/COCO_val2014_000000000009.jpg'),
        (spoil_minival, 'in neither 2014 file: 500'),
        (spoil_categories, 'have different categories'),
    ],
)
def test_problems_are_named_and_nothing_is_written(root, spoil, message):
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        root.prepare()
    made = [path.name for path in (root.path / 'annotations').iterdir()]
    assert not any('mini' in name for name in made)
