"""Which records of an annotation file are used, and what is said of others."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from mmdet_shufflenetv2.data.reading import (
    look_at_images,
    read_boxes,
    report,
    require_trainable,
)
from mmdet_shufflenetv2.data.table import DatasetError, Source

NAN, INF = math.nan, math.inf


def said(table) -> str:
    return '\n'.join(report(table))


def test_good_file_is_read_without_a_word(coco):
    table = coco.read()
    assert report(table, strict=True) == []
    assert (len(table), len(table.boxes)) == (3, 4)
    assert table.classes == ('cat', 'dog')
    assert table.labels.tolist() == [0, 1, 0, 1]
    assert table.image.tolist() == [0, 1, 0, 1]
    assert table.boxes[2].tolist() == [4, 3, 10, 8]
    assert table.files[1] == str(coco.img_dir / '1.png')


@pytest.mark.parametrize(
    'box, message',
    [
        ([5, 5, 0, 8], 'box of zero width or height; left out'),
        ([5, 5, 8, 0], 'box of zero width or height; left out'),
        ([5, 5, -4, 8], 'box of negative width or height; left out'),
        ([5, NAN, 4, 8], 'box with NaN or infinity; left out'),
        ([5, 5, INF, 8], 'box with NaN or infinity; left out'),
        ([50, 5, 4, 8], 'box wholly outside its image; left out'),
        ([-4, 5, 4, 8], 'box wholly outside its image; left out'),
    ],
)
def test_bad_box_costs_its_record_and_is_named(coco, box, message):
    coco.data['annotations'][2]['bbox'] = box
    table = coco.read()
    assert table.lines.tolist() == [0, 1, 3]
    text = said(table)
    assert f'1 x {message}' in text
    assert str(coco.ann_file) in text
    assert "annotations[2] (id 102, image 7 '0.png', 40 x 30)" in text
    assert str([float(x) for x in box]) in text
    with pytest.raises(DatasetError, match='cannot be used'):
        report(table, strict=True)


@pytest.mark.parametrize('box', [[30, 5, 14, 8], [-5, 25, 20, 20]])
def test_box_partly_outside_is_clipped(coco, box):
    coco.data['annotations'][2]['bbox'] = box
    table = coco.read()
    x, y, width, height = table.boxes[2]
    assert x >= 0
    assert y >= 0
    assert x + width <= 40
    assert y + height <= 30
    assert table.area[2] <= width * height
    assert 'more than 2 px beyond its image; clipped' in said(table)


@pytest.mark.parametrize(
    'box, message',
    [
        ([30, 5, 10.01, 8], 'up to 2 px beyond its image'),
        ([0, 0, 42, 32], 'up to 2 px beyond its image'),
        ([5, 5, 0.5, 8], 'thinner than 1 px'),
    ],
)
def test_what_coco_itself_contains_is_a_warning(coco, box, message):
    coco.data['annotations'][2]['bbox'] = box
    table = coco.read()
    assert message in '\n'.join(report(table, strict=True))
    assert table.boxes[2].tolist() == box


def test_flat_boxes_of_coco_do_not_stop_its_training(coco):
    coco.data['images'][0].update(id=200365, width=640, height=480)
    flat = dict(
        id=918,
        image_id=200365,
        category_id=3,
        bbox=[296.65, 388.33, 1.03, 0.0],
        area=0.0,
        iscrowd=0,
    )
    coco.data['annotations'] = [flat, dict(flat, id=1, bbox=[1, 1, 5, 5])]
    assert 'that COCO is known for' in '\n'.join(report(coco.read(), True))
    flat['bbox'] = [296, 388, 1, 0]
    assert 'zero width or height' in said(coco.read())


def test_ids_as_text_or_floats_are_read(coco):
    for image in coco.data['images']:
        image['id'] = str(image['id'])
    for ann in coco.data['annotations']:
        ann['image_id'], ann['category_id'] = (
            float(ann['image_id']),
            str(ann['category_id']),
        )
    expected = coco.read()
    assert report(expected, strict=True) == []
    assert expected.image_ids.tolist() == [7, 8, 9]
    assert expected.image.tolist() == [0, 1, 0, 1]
    assert expected.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    'section, field, value',
    [
        ('annotations', 'image_id', 'first'),
        ('annotations', 'image_id', 1.5),
        ('annotations', 'image_id', True),
        ('annotations', 'category_id', 'cat'),
        ('annotations', 'category_id', 2**70),
        ('images', 'id', 'first'),
    ],
)
def test_field_that_is_no_id_is_named(coco, section, field, value):
    coco.data[section][1][field] = value
    text = said(coco.read())
    assert f"'{field}' is not a whole number" in text
    assert f'{section}[1]' in text
    assert repr(value) in text


def test_second_list_that_only_follows_from_the_first_is_not_told(coco):
    del coco.data['images'][0]['file_name']
    table = coco.read()
    assert "1 x image without a 'file_name'" in said(table)
    # Its annotations go with it.
    assert table.errors.counts == {"image without a 'file_name'": 1}
    assert table.image_ids.tolist() == [8, 9]
    assert table.lines.tolist() == [1, 3]


def _set(section, index, **values):
    return lambda data: data[section][index].update(values)


def _drop(section, index, name):
    return lambda data: data[section][index].pop(name)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (
            _set('annotations', 1, category_id=99),
            r'\(listed: 3, 4\):\n.*\[1\] \(id 101\): category_id 99',
        ),
        (
            _set('annotations', 1, image_id=99),
            r'not listed:\n.*\[1\] \(id 101\): image_id 99',
        ),
        (_set('images', 1, id=7), r'another image has too:\n.*images\[0\]'),
        (
            _set('images', 1, file_name='1.jpg'),
            r"not in .*\n.*'1.jpg' \(id 8\); there is 1.png",
        ),
        (_set('images', 1, file_name='../secret.png'), 'that is not in'),
        (_set('images', 1, file_name='/etc/passwd'), 'that is not in'),
        (_drop('annotations', 1, 'bbox'), r'4 numbers:\n.*\[1\].*bbox None'),
        (_set('annotations', 1, bbox=[1, 2, 3]), r'4 numbers:\n.*\[1\]'),
        (_set('annotations', 1, bbox=[1, 2, 3, None]), r'4 numbers:\n.*\[1\]'),
        (_set('annotations', 1, bbox='1234'), r'4 numbers:\n.*\[1\]'),
        (_set('annotations', 1, bbox=5), r'4 numbers:\n.*\[1\]'),
    ],
)
def test_wrong_record_is_left_out_and_named(coco, spoil, message):
    spoil(coco.data)
    table = coco.read()
    assert len(table.boxes) in (2, 3) or len(table) == 1
    with pytest.raises(DatasetError, match=message) as error:
        report(table, strict=True)
    assert str(coco.ann_file) in str(error.value)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (
            _set('categories', 1, id=3),
            r'categories\[1\]: duplicate id or name, got id 3',
        ),
        (
            _set('categories', 1, name='cat'),
            r"categories\[1\]: duplicate .* name 'cat'",
        ),
        (_set('categories', 1, id='x'), r'categories\[1\]: expected a whole'),
        (lambda data: data.update(categories=[]), "no 'categories'"),
        (lambda data: data.update(images=3), "'images' to be a list"),
        (lambda data: data.update(images=[3]), 'to be a list of objects'),
        (lambda data: data.pop('images'), 'is not a COCO annotation file'),
    ],
)
def test_file_that_cannot_be_read_at_all_is_an_error(coco, spoil, message):
    spoil(coco.data)
    with pytest.raises(DatasetError, match=message) as error:
        coco.read()
    assert str(coco.ann_file) in str(error.value)


@pytest.mark.parametrize(
    'text', ['', '{', '[]', 'null', '[' * 10**5, '{"images":[],"images":[]}']
)
def test_unreadable_json_is_an_error_naming_the_file(coco, text):
    coco.ann_file.write_text(text)
    with pytest.raises(DatasetError, match=r'ann\.json'):
        read_boxes(Source('COCO', str(coco.ann_file), ()))


def test_what_exports_leave_out_is_told_from_the_rest(coco):
    first, second, third, _ = coco.data['annotations']
    del first['area'], first['iscrowd'], first['id']
    second['iscrowd'] = None
    third['segmentation'] = [[1, 2, 9, 2, 9, 12, 1, 12]]
    del third['bbox']
    for image in coco.data['images']:
        del image['width'], image['height']
    table = coco.read()
    assert table.area.tolist() == [80, 80, 80, 80]
    assert not table.crowd.any()
    assert table.boxes[2].tolist() == [1, 2, 8, 10]
    assert (table.sizes == [40, 30]).all()


def test_byte_order_mark_is_read(coco):
    before = coco.read()
    coco.ann_file.write_text(json.dumps(coco.data), encoding='utf-8-sig')
    again = read_boxes(before.source)
    assert (again.boxes == before.boxes).all()


def test_file_is_parsed_once_until_it_changes(coco, monkeypatch):
    from mmdet_shufflenetv2.data import reading

    parsed = []
    original = reading.READERS['COCO']
    monkeypatch.setitem(
        reading.READERS, 'COCO', lambda s: parsed.append(s) or original(s)
    )
    source = coco.read().source
    assert read_boxes(source) is read_boxes(source)
    assert len(parsed) == 1
    coco.data['annotations'].pop()
    coco.save()
    assert len(read_boxes(source).boxes) == 3
    assert len(parsed) == 2


def test_two_files_of_equal_names_keep_their_own_boxes(coco, tmp_path):
    """Repaired copies were named by folder and stem: val trained as train."""
    tables = []
    for split, shift in ('train', 0), ('val', 20):
        folder = type(coco)(tmp_path / split)
        folder.ann_file = tmp_path / split / 'annotations' / 'default.json'
        folder.data['annotations'][0]['bbox'] = [shift, 3, 10, 8]
        # Something to be repaired in both.
        folder.data['annotations'][1]['bbox'] = [0, 0, 0, 0]
        tables.append(folder.write().read())
    assert [table.boxes[0, 0] for table in tables] == [0, 20]
    assert tables[0].files[0] != tables[1].files[0]


@pytest.mark.parametrize(
    'boxes, cause',
    [
        ([[0.1, 0.1, 0.5, 0.5]], 'shares of the image'),
        ([[5, 5, 0.5, 8]], 'thinner than 1 px'),
        ([[5, 5, 0, 8]], 'no box of the classes cat, dog'),
    ],
)
def test_training_on_nothing_is_refused_with_the_cause(coco, boxes, cause):
    for ann in coco.data['annotations']:
        ann['bbox'] = boxes[0]
    with pytest.raises(DatasetError, match=f'nothing to train on.*{cause}'):
        require_trainable(coco.read())


def test_corners_for_sizes_are_told_from_a_few_wrong_boxes(coco):
    for ann in coco.data['annotations']:
        ann['bbox'] = [20, 12, 38, 28]
    with pytest.raises(DatasetError, match='all would fit as x1, y1, x2, y2'):
        coco.read()


def test_broken_images_are_left_out_before_a_run(coco):
    (coco.img_dir / '0.png').write_bytes(b'no picture')
    (coco.img_dir / '1.png').write_bytes(b'')
    table = look_at_images(coco.read())
    assert table.names == ['2.png']
    text = said(table)
    assert '2 x broken image; left out' in text
    assert '0.png' in text
    assert 'it is empty (0 bytes)' in text


@pytest.mark.parametrize('orientation, told', [(3, 1), (6, 0), (1, 0)])
def test_images_whose_boxes_may_be_on_either_side_are_counted(
    coco, orientation, told
):
    exif = Image.Exif()
    exif[0x112] = orientation
    name = '0.jpg'
    Image.new('RGB', (40, 30)).save(coco.img_dir / name, exif=exif)
    coco.data['images'][0]['file_name'] = name
    table = look_at_images(coco.read())
    assert len(table) == 3
    counts = {
        kind: count
        for kind, count in table.warnings.counts.items()
        if 'EXIF' in kind
    }
    assert sum(counts.values()) == told


def test_image_of_another_size_than_its_record_is_named(coco):
    coco.data['images'][0]['width'] = 41
    table = look_at_images(coco.read())
    assert 'is 40 x 30 (width x height), but its annotation' in said(table)


def test_box_sizes_are_told_as_after_mmdets_resize(coco):
    table = coco.read()
    assert table.image_sizes().tolist() == [[40, 30]] * 3
    assert np.allclose(table.box_sizes(), 80**0.5)
    # Keeping the ratio, 40 x 30 becomes 20 x 15, whatever the order.
    assert np.allclose(table.box_sizes((15, 20)), 80**0.5 / 2)
