import copy
import json
import math

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet_shufflenetv2.data.box_rules import classify_boxes, clip_box
from mmdet_shufflenetv2.data.checks import DatasetError, check_coco_file
from pycocotools.coco import COCO

NAN, INF = math.nan, math.inf


def check(coco, **options):
    return check_coco_file(coco.save(), coco.img_dir, **options)


def test_good_file_passes_without_a_warning(coco):
    report = check(coco)
    assert report.warnings == []
    assert not report.needs_copy
    assert report.usable_file(coco.root) == coco.ann_file
    assert (report.num_images, report.num_annotations) == (3, 4)
    assert report.classes == ('cat', 'dog')


def test_image_without_objects_is_legal(coco):
    used = {ann['image_id'] for ann in coco.data['annotations']}
    assert used < {image['id'] for image in coco.data['images']}
    check(coco)


@pytest.mark.parametrize(
    'box, message',
    [
        ([5, 5, 0, 8], 'box of zero width or height'),
        ([5, 5, 8, 0], 'box of zero width or height'),
        ([5, 5, -4, 8], 'box of negative width or height'),
        ([5, NAN, 4, 8], 'box with NaN or infinity'),
        ([5, 5, INF, 8], 'box with NaN or infinity'),
        ([50, 5, 4, 8], 'box wholly outside its image'),
        ([-4, 5, 4, 8], 'box wholly outside its image'),
        ([30, 5, 14, 8], 'box more than 2 px beyond its image'),
        ([-3, 5, 14, 8], 'box more than 2 px beyond its image'),
    ],
)
def test_bad_box_is_named_with_file_record_and_image(coco, box, message):
    coco.data['annotations'][2]['bbox'] = box
    with pytest.raises(DatasetError) as error:
        check(coco)
    text = str(error.value)
    assert f'1 x {message}' in text
    assert '--on-bad-boxes drop' in text
    assert str(coco.ann_file) in text
    assert "annotations[2] (id 102, image 7 '0.png', 40 x 30)" in text
    assert str([float(x) for x in box]) in text


@pytest.mark.parametrize(
    'box',
    [
        [5, 5, 0, 8],
        [5, 5, -4, 8],
        [NAN, 5, 4, 8],
        [5, 5, INF, 8],
        [50, 5, 4, 8],
    ],
)
def test_drop_leaves_out_bad_boxes_and_nothing_else(coco, box):
    coco.data['annotations'][2]['bbox'] = box
    report = check(coco, on_bad_boxes='drop')
    assert report.dropped == {2}
    assert any('left out' in line for line in report.warnings)
    copied = json.loads(report.usable_file(coco.root / 'work').read_text())
    expected = copy.deepcopy(coco.data)
    del expected['annotations'][2]
    assert copied == expected


def test_drop_never_leaves_a_file_without_annotations(coco):
    for ann in coco.data['annotations']:
        ann['bbox'] = [5, 5, 0, 8]
    with pytest.raises(DatasetError, match='boxes are all bad'):
        check(coco, on_bad_boxes='drop')


def test_drop_clips_a_box_that_is_partly_inside(coco):
    coco.data['annotations'][2]['bbox'] = [-5, 25, 20, 20]
    report = check(coco, on_bad_boxes='drop')
    copied = json.loads(report.usable_file(coco.root / 'work').read_text())
    assert copied['annotations'][2]['bbox'] == [0, 25, 15, 5]
    assert copied['annotations'][2]['area'] == 75
    assert len(copied['annotations']) == 4


def test_checked_file_is_never_changed(coco):
    coco.data['annotations'][2]['bbox'] = [5, 5, 0, 8]
    before = coco.save().read_bytes()
    report = check(coco, on_bad_boxes='drop')
    assert report.usable_file(coco.root) != coco.ann_file
    assert coco.ann_file.read_bytes() == before


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
    report = check(coco)
    assert message in report.warnings[0]
    assert not report.needs_copy


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
    report = check(coco)
    assert 'flat box that COCO is known for' in report.warnings[-2]
    assert report.dropped == set()
    flat['id'] = 919
    with pytest.raises(DatasetError, match='zero width or height'):
        check(coco)


def test_missing_area_and_iscrowd_are_filled_in(coco):
    del coco.data['annotations'][0]['area']
    coco.data['annotations'][1]['area'] = 0
    del coco.data['annotations'][3]['iscrowd']
    report = check(coco)
    copied = json.loads(report.usable_file(coco.root / 'work').read_text())
    assert [a['area'] for a in copied['annotations']] == [80] * 4
    assert [a['iscrowd'] for a in copied['annotations']] == [0] * 4
    COCO(report.usable_file(coco.root / 'work'))


def spoil_unlisted_category(data):
    data['annotations'][1]['category_id'] = 99


def spoil_unlisted_image(data):
    data['annotations'][1]['image_id'] = 99


def spoil_annotation_id(data):
    data['annotations'][1]['id'] = 103


def spoil_image_id(data):
    data['images'][1]['id'] = 7


def spoil_category_id(data):
    data['categories'][1]['id'] = 3


def spoil_category_name(data):
    data['categories'][1]['name'] = 'cat'


def spoil_absent_image(data):
    data['images'][1]['file_name'] = '1.jpg'


def spoil_folder(data):
    data['images'][1]['file_name'] = '../secret.png'


def spoil_absolute(data):
    data['images'][1]['file_name'] = '/etc/passwd'


def spoil_size(data):
    data['images'][1]['width'] = 0


def spoil_no_size(data):
    del data['images'][1]['width']


def spoil_no_box(data):
    del data['annotations'][1]['bbox']


def spoil_short_box(data):
    data['annotations'][1]['bbox'] = [1, 2, 3]


def spoil_text_box(data):
    data['annotations'][1]['bbox'] = ['1', '2', '3', '4']


def spoil_text_id(data):
    data['annotations'][1]['image_id'] = '8'


def spoil_no_annotations(data):
    data['annotations'] = []


def spoil_no_section(data):
    del data['annotations']


def spoil_no_categories(data):
    data['categories'] = []
    data['annotations'] = []


def spoil_no_images(data):
    data['images'] = []
    data['annotations'] = []


@pytest.mark.parametrize(
    'spoil, message',
    [
        (spoil_unlisted_category, r'\(listed: 3, 4\):\n.*\[1\] \(id 101\)'),
        (
            spoil_unlisted_image,
            r'not listed:\n.*\[1\] \(id 101\): image_id 99',
        ),
        (spoil_annotation_id, r'twice in annotations:\n.*\[3\]: id 103'),
        (spoil_image_id, r'twice in images:\n.*images\[1\]: id 7'),
        (spoil_category_id, r'category id .* twice:\n.*\[1\]: id 3'),
        (spoil_category_name, r"name .* twice:\n.*\[1\]: id 4, name 'cat'"),
        (spoil_absent_image, r"images\[1\] \(id 8, '1.jpg'\); there is 1.png"),
        (spoil_folder, 'leaves the image folder'),
        (spoil_absolute, 'leaves the image folder'),
        (spoil_size, r'below 1:\n.*images\[1\].*: 0 x 30'),
        (spoil_no_size, r'images\[1\].*: it has no width'),
        (spoil_no_box, r'annotations\[1\] \(id 101\): it has no bbox'),
        (spoil_short_box, r'annotations\[1\] \(id 101\): not enough values'),
        (spoil_text_box, r'annotations\[1\] \(id 101\): '),
        (spoil_text_id, r'annotations\[1\] \(id 101\): '),
        (spoil_no_annotations, 'file without annotations'),
        (spoil_no_section, 'file without annotations'),
        (spoil_no_categories, 'file without categories'),
        (spoil_no_images, 'file without images'),
    ],
)
def test_wrong_record_is_named(coco, spoil, message):
    spoil(coco.data)
    with pytest.raises(DatasetError, match=message) as error:
        check(coco, on_bad_boxes='drop')
    assert str(coco.ann_file) in str(error.value)


def test_all_kinds_of_errors_are_told_at_once_with_counts(coco):
    for number in range(12):
        ann = dict(coco.data['annotations'][0], id=200 + number, category_id=8)
        coco.data['annotations'].append(ann)
    spoil_absent_image(coco.data)
    with pytest.raises(DatasetError) as error:
        check(coco)
    text = str(error.value)
    assert '12 x annotation of a category that is not listed' in text
    assert '... and 7 more' in text
    assert '1 x image that is not in' in text


def test_loaded_data_is_checked_alike(coco):
    report = check_coco_file('my.json', coco.img_dir, data=coco.data)
    assert (report.num_images, report.num_annotations) == (3, 4)
    spoil_unlisted_category(coco.data)
    with pytest.raises(DatasetError, match=r'my\.json cannot be used'):
        check_coco_file('my.json', coco.img_dir, data=coco.data)


@pytest.mark.parametrize('text', ['', '{', '[]', 'null', '{"images": 3}'])
def test_unreadable_json_is_an_error_naming_the_file(coco, text):
    coco.ann_file.write_text(text)
    with pytest.raises(DatasetError, match=r'ann\.json'):
        check_coco_file(coco.ann_file)


def test_byte_order_mark_is_repaired(coco):
    """pycocotools stops at it."""
    check(coco)
    coco.ann_file.write_text(
        coco.ann_file.read_text(encoding='utf-8'), encoding='utf-8-sig'
    )
    report = check_coco_file(coco.ann_file, coco.img_dir)
    usable = report.usable_file(coco.root / 'work')
    assert usable != coco.ann_file
    assert len(COCO(str(usable)).getAnnIds()) == 4


def test_categories_in_another_order_are_repaired(coco):
    report = check(coco, classes=('dog', 'cat', 'bird'))
    copied = COCO(report.usable_file(coco.root / 'work'))
    order = [(c['id'], c['name']) for c in copied.dataset['categories']]
    assert order == [(4, 'dog'), (3, 'cat'), (5, 'bird')]
    assert copied.dataset['annotations'] == coco.data['annotations']


def test_labels_in_mmdet_follow_the_given_classes(coco):
    classes = ('dog', 'cat', 'bird')
    report = check(coco, classes=classes)
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=str(report.usable_file(coco.root / 'work')),
            data_prefix=dict(img=str(coco.img_dir)),
            metainfo=dict(classes=classes),
            pipeline=[],
        )
    )
    names = {c['id']: c['name'] for c in coco.data['categories']}
    of_image = {7: [], 8: [], 9: []}
    for ann in coco.data['annotations']:
        of_image[ann['image_id']].append(names[ann['category_id']])
    for info in map(dataset.get_data_info, range(len(dataset))):
        labels = [i['bbox_label'] for i in info['instances']]
        assert [classes[i] for i in labels] == of_image[info['img_id']]
    assert len(dataset) == 3


@pytest.mark.parametrize('classes', [('cat', 'dog'), ('dog',), None])
def test_categories_in_the_right_order_are_left_alone(coco, classes):
    assert not check(coco, classes=classes).needs_copy


def test_unknown_choice_is_refused(coco):
    with pytest.raises(ValueError, match="'error' or 'drop', but got 'skip'"):
        check(coco, on_bad_boxes='skip')


def test_each_box_breaks_at_most_one_rule():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-30, 60, (500, 4))
    boxes[::17, 2] = 0
    boxes[::23, 1] = np.nan
    zeros = np.zeros(500, np.int64)
    found = classify_boxes(boxes, np.full((500, 2), 40.0), zeros, zeros)
    together = np.concatenate(list(found.values()))
    assert len(together) == len(set(together)) > 400


def test_clipped_box_lies_in_the_image():
    assert clip_box(np.array([-5, 2, 100, 3]), (40, 30)) == [0, 2, 40, 3]
    assert clip_box(np.array([1, 28, 5, 9]), (40, 30)) == [1, 28, 5, 2]


@pytest.mark.real_data
@pytest.mark.parametrize(
    'name, images, boxes',
    [
        ('coco_mini/annotations/instances_train2017', 80, 739),
        ('coco_mini/annotations/instances_val2017', 79, 624),
        ('bccd/annotations/train', 292, 3941),
        ('bccd/annotations/test', 72, 945),
    ],
)
def test_real_annotations_pass(real_data, name, images, boxes):
    report = check_coco_file(real_data / f'{name}.json')
    assert (report.num_images, report.num_annotations) == (images, boxes)
    assert not report.dropped
