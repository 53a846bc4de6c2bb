"""``python -m mmdet_shufflenetv2 check``."""

import json

import pytest
from coco_files import SIX, SIZE, write_coco
from PIL import Image

from mmdet_shufflenetv2.data.synthetic import CLASSES, DetectionSet, write_set


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / 'data', DetectionSet(4, 2, (96, 96), 0, 0.0))
    return tmp_path / 'data'


def test_good_data_are_counted_and_drawn(here, data, tmp_path):
    text = here('check', data, '--out-dir', tmp_path / 'out')
    assert 'train: 4 images' in text
    assert 'val: 2 images' in text
    assert all(f'  {name}: ' in text for name in CLASSES)
    assert len(list(tmp_path.glob('out/train/*.jpg'))) == 4


def test_wrong_records_are_named_and_drawn(here, data, tmp_path):
    path = data / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [90, 90, 40, 40]
    content['annotations'][1]['bbox'] = [5, float('nan'), 40, 40]
    path.write_text(json.dumps(content))
    text = here('check', data, '--out-dir', tmp_path / 'out', code=1)
    assert '2 invalid records' in text
    assert 'annotations[0]' in text
    assert 'annotations[1]' in text
    drawn = {path.name[:7] for path in tmp_path.glob('out/train/*.jpg')}
    assert {'000_box', '001_box'} <= drawn


def test_pictures_are_not_turned_if_only_the_stored_size_fits(here, tmp_path):
    """Boxes were drawn on a picture on its side."""
    write_coco(tmp_path / 'train.json', SIX)
    exif = Image.Exif()
    exif[0x112] = 6
    for name in SIX:
        Image.new('RGB', SIZE).save(tmp_path / name, exif=exif)
    out = tmp_path / 'out'
    here('check', tmp_path, '--out-dir', out)
    sizes = {Image.open(path).size for path in out.glob('train/*.jpg')}
    assert sizes == {SIZE}
