"""Which records of an annotation file are used, and how others are named."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_shufflenetv2.data import reading
from mmdet_shufflenetv2.data.reading import read_boxes, report
from mmdet_shufflenetv2.data.rules import require_trainable
from mmdet_shufflenetv2.data.table import DatasetError

NAN = math.nan


def said(table) -> str:
    return '\n'.join(report(table))


@pytest.mark.parametrize(
    'box, message',
    [
        ([5, 5, 0, 8], 'box of zero width or height; left out'),
        ([5, 5, -4, 8], 'box of negative width or height; left out'),
        ([5, NAN, 4, 8], 'box with NaN or infinity; left out'),
        ([50, 5, 4, 8], 'box wholly outside its image; left out'),
    ],
)
def test_bad_box_is_left_out_and_named(coco, box, message):
    coco.data['annotations'][2]['bbox'] = box
    table = coco.read()
    assert table.lines.tolist() == [0, 1, 3]
    text = said(table)
    assert f'1 x {message}' in text
    assert str(coco.ann_file) in text
    assert "annotations[2] (id 102), image '0.png', 40 x 30" in text
    assert str([float(x) for x in box]) in text
    with pytest.raises(DatasetError, match='cannot be used'):
        report(table, strict=True)


def test_box_partly_outside_is_clipped(coco):
    coco.data['annotations'][2]['bbox'] = [-5, 25, 20, 20]
    table = coco.read()
    assert table.boxes[2].tolist() == [0, 25, 15, 5]
    assert table.area[2] == 75
    assert 'more than 2 px beyond its image; clipped' in said(table)


@pytest.mark.parametrize(
    'box, message',
    [
        ([0, 0, 42, 32], 'up to 2 px beyond its image'),
        ([5, 5, 0.5, 8], 'thinner than 1 px'),
    ],
)
def test_flaws_of_coco_itself_are_warnings(coco, box, message):
    coco.data['annotations'][2]['bbox'] = box
    table = coco.read()
    assert message in '\n'.join(report(table, strict=True))
    assert table.boxes[2].tolist() == box


def test_known_flat_boxes_of_coco_are_not_errors(coco):
    coco.data['images'][0].update(id=200365, width=640, height=480)
    flat, second = coco.data['annotations'][:2]
    flat.update(image_id=200365, bbox=[296.65, 388.33, 1.03, 0.0], area=0.0)
    coco.data['annotations'] = [flat, second]
    coco.write()
    assert 'known to be in COCO' in '\n'.join(report(coco.read(), True))
    flat['bbox'] = [296, 388, 1, 0]
    assert 'zero width or height' in said(coco.read())


def test_ids_as_text_or_floats_are_read(coco):
    for image in coco.data['images']:
        image['id'] = str(image['id'])
    for ann in coco.data['annotations']:
        ann['image_id'] = float(ann['image_id'])
        ann['category_id'] = str(ann['category_id'])
    table = coco.read()
    assert report(table, strict=True) == []
    assert table.image_ids.tolist() == [7, 8, 9]
    assert table.image.tolist() == [0, 1, 0, 1]
    assert table.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    'section, spoil, message',
    [
        ('annotations', dict(image_id='first'), "[1] (id 101): image_id 'fir"),
        ('annotations', dict(image_id=99), '[1] (id 101): image_id 99'),
        ('annotations', dict(category_id=99), '(listed: 3, 4):'),
        ('annotations', dict(category_id=2**70), 'category_id 11805916207174'),
        ('annotations', dict(bbox=[1, 2, 3]), 'bbox [1, 2, 3]'),
        ('annotations', dict(bbox=[10**400, 2, 3, 4]), 'bbox [1000'),
        ('annotations', dict(bbox=0, segmentation=[[1, 2, 3]]), 'bbox 0'),
        ('annotations', dict(bbox=0, segmentation=[[]]), 'bbox 0'),
        ('images', dict(id='+-8'), "images[1]: id '+-8'"),
        ('images', dict(id='first'), "images[1]: id 'first', '1.png'"),
        ('images', dict(file_name=None), 'images[1]: id 8, None'),
        ('images', dict(id=7), 'id 7: 0.png, 1.png'),
        ('images', dict(file_name='1.jpg'), "image '1.jpg' (id 8)"),
        (
            'images',
            dict(file_name='/etc/passwd'),
            "image '/etc/passwd' (id 8)",
        ),
    ],
)
def test_invalid_record_is_left_out_and_named(coco, section, spoil, message):
    coco.data[section][1].update(spoil)
    table = coco.read()
    assert len(table.boxes) < 4
    with pytest.raises(DatasetError) as error:
        report(table, strict=True)
    assert message in str(error.value)
    assert str(coco.ann_file) in str(error.value)


@pytest.mark.parametrize('number, name', [(7, None), ('im7', '0.png')])
def test_annotations_of_a_left_out_image_are_not_reported(coco, number, name):
    coco.data['images'][0].update(id=number, file_name=name)
    for ann in coco.data['annotations'][::2]:
        ann['image_id'] = number
    table = coco.read()
    # Only the image is reported; its annotations go with it.
    assert sum(table.errors.counts.values()) == 1
    assert table.image_ids.tolist() == [8, 9]
    assert table.lines.tolist() == [1, 3]


@pytest.mark.parametrize(
    'spoil, message',
    [
        (dict(categories=[dict(id=3, name='a')] * 2), r'\[1\]: .* got id 3'),
        (dict(categories=[]), "no 'categories'"),
        (dict(images=[3]), 'each a list of objects'),
    ],
)
def test_unusable_file_is_an_error(coco, spoil, message):
    coco.data.update(spoil)
    with pytest.raises(DatasetError, match=message) as error:
        coco.read()
    assert str(coco.ann_file) in str(error.value)


def test_categories_of_equal_names_are_merged_with_a_warning(coco):
    coco.data['categories'][1]['name'] = 'cat'
    table = coco.read()
    assert table.classes == ('cat',)
    assert table.counts().tolist() == [4]
    assert list(table.warnings.counts.values()) == [1]


def test_names_are_relative_to_the_configured_folder(coco):
    coco.ann_file = coco.ann_file.with_name('val.json')
    (coco.img_dir / 'val').mkdir()
    shutil.copy(coco.img_dir / '0.png', coco.img_dir / 'val')
    assert coco.read().files[0] == str(coco.img_dir / '0.png')


def test_missing_fields_are_derived_from_the_others(coco):
    first, second, third, _ = coco.data['annotations']
    del first['area'], first['iscrowd'], first['id']
    second['iscrowd'] = None
    third['segmentation'] = [[1, 2, 9, 2, 9, 12, 1, 12]]
    del third['bbox']
    for image in coco.data['images']:
        del image['width'], image['height']
    source = coco.read().source
    # Also test a byte-order mark.
    coco.ann_file.write_text(json.dumps(coco.data), encoding='utf-8-sig')
    table = read_boxes(source)
    assert table.area.tolist() == [80, 80, 80, 80]
    assert not table.crowd.any()
    assert table.boxes[2].tolist() == [1, 2, 8, 10]
    assert (table.sizes == [40, 30]).all()


def test_file_is_parsed_once_until_it_changes(coco, monkeypatch):
    parsed = []
    original = reading.READERS['COCO']
    monkeypatch.setitem(
        reading.READERS, 'COCO', lambda s: parsed.append(s) or original(s)
    )
    source = coco.read().source
    for name in 'train', 'val':
        read_boxes(source._replace(part=(name, 0.5, 0)))
    assert len(parsed) == 1
    coco.data['annotations'].pop()
    coco.save()
    assert len(read_boxes(source).boxes) == 3
    assert len(parsed) == 2


def test_first_line_of_older_lists_is_not_an_image(coco):
    coco.data['images'][0]['file_name'] = '#1.png'
    source = coco.write().read().source
    listed = coco.root / 'val.txt'
    listed.write_text('# images of ann.json\n#1.png\n2.png\n')
    table = read_boxes(source._replace(image_list=(str(listed),)))
    assert table.names == ['#1.png', '2.png']
    assert not table.warnings


@pytest.mark.parametrize('value', [None, 'wide', 10**400, math.inf])
def test_invalid_sizes_and_areas_are_measured(coco, value):
    coco.data['images'][0]['height'] = value
    coco.data['annotations'][0]['area'] = value
    table = coco.read()
    assert (table.sizes == [40, 30]).all()
    assert (table.area == 80).all()


def test_two_files_with_equal_names_keep_their_own_boxes(coco, tmp_path):
    """Both once shared a repaired copy: val was trained on as train."""
    tables = []
    for split, shift in ('train', 0), ('val', 20):
        folder = type(coco)(tmp_path / split)
        folder.ann_file = tmp_path / split / 'annotations' / 'default.json'
        folder.data['annotations'][0]['bbox'] = [shift, 3, 10, 8]
        # An error in both.
        folder.data['annotations'][1]['bbox'] = [0, 0, 0, 0]
        tables.append(folder.write().read())
    assert [table.boxes[0, 0] for table in tables] == [0, 20]
    assert tables[0].files[0] != tables[1].files[0]


@pytest.mark.parametrize(
    'box, cause',
    [
        ([0.1, 0.1, 0.5, 0.5], 'fractions of the image'),
        ([5, 5, 0.5, 8], 'thinner than 1 px'),
        ([5, 5, 0, 8], 'no box of the classes cat, dog'),
    ],
)
def test_training_without_boxes_is_an_error_with_the_cause(coco, box, cause):
    for ann in coco.data['annotations']:
        ann['bbox'] = box
    with pytest.raises(DatasetError, match=f'nothing to train on.*{cause}'):
        require_trainable(coco.read())


def test_broken_images_are_left_out_before_a_run(coco):
    (coco.img_dir / '0.png').write_bytes(b'no picture')
    larger = np.zeros((30, 41, 3), np.uint8)
    cv2.imwrite(str(coco.img_dir / '1.png'), larger)
    table = coco.read()
    assert table.names == ['2.png']
    text = said(table)
    assert '2 x broken image; left out' in text
    assert '0.png' in text
    assert 'is 41 x 30 (width x height), but its annotation' in text


@pytest.mark.parametrize('orientation, told', [(3, 1), (6, 0), (1, 0)])
def test_images_with_ambiguous_orientation_are_counted(
    coco, orientation, told
):
    exif = Image.Exif()
    exif[0x112] = orientation
    name = '0.jpg'
    Image.new('RGB', (40, 30)).save(coco.img_dir / name, exif=exif)
    coco.data['images'][0]['file_name'] = name
    table = coco.read()
    assert len(table) == 3
    counts = table.warnings.counts
    assert sum(n for kind, n in counts.items() if 'EXIF' in kind) == told
