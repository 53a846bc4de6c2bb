import json

import pytest
from coco_files import content, picture

from mmdet_shufflenetv2.data.coco_splits import prepare
from mmdet_shufflenetv2.data.table import DatasetError

TRAIN, VAL, MINIVAL = range(1, 8), range(8, 14), range(9, 12)
NAMES = {'2014': 'COCO_{}_{:012d}.jpg', '2017': '{1:012d}.jpg'}
MADE = ('trainvalminusminival2014', 'minival2014')
VAL_9 = 'val2014/COCO_val2014_000000000009.jpg'


def people(ids, folder, year):
    """Two in each image, whose ids are the same in every layout."""
    images = {i: NAMES[year].format(folder, i) for i in ids}
    boxes = {10 * i + k: (i, 1, [1, 2, 3, 4.5]) for k in (0, 1) for i in ids}
    data = content(images, boxes, {1: 'person'})
    return {'info': {'year': int(year)}, **data}


class Root:
    """A tiny COCO folder; ``prepare`` first writes ``data``."""

    def __init__(self, path):
        self.path = path
        (path / 'annotations').mkdir()
        rest = [i for i in VAL if i not in MINIVAL]
        self.data = {
            'train2014': people(TRAIN, 'train2014', '2014'),
            'val2014': people(VAL, 'val2014', '2014'),
            'train2017': people([*TRAIN, *rest], 'train2017', '2017'),
            'val2017': people(MINIVAL, 'val2017', '2017'),
        }
        for folder, data in self.data.items():
            for image in data['images']:
                picture(path / folder / image['file_name'])

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


@pytest.mark.parametrize(
    'spoil, message',
    [
        (
            lambda root: root.data.update(
                train2014=people(TRAIN[1:], 'train2014', '2014')
            ),
            'expected 10 images with boxes, got 9 images',
        ),
        (
            lambda root: (root.path / VAL_9).unlink(),
            rf'not found .*\n.*{VAL_9}',
        ),
        (
            lambda root: root.data['val2017']['images'][0].update(id=500),
            'in neither 2014 file: 500',
        ),
        (
            lambda root: root.data['val2014']['categories'][0].update(id=2),
            'have different categories',
        ),
    ],
)
def test_problems_are_named_and_nothing_is_written(root, spoil, message):
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        root.prepare()
    made = [path.name for path in (root.path / 'annotations').iterdir()]
    assert not any('mini' in name for name in made)
