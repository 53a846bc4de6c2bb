import json
import shutil

import pytest
from mmdet_shufflenetv2.data.checks import DatasetError
from mmdet_shufflenetv2.data.custom import find_coco_splits


def put(root, ann, img, names=('a.jpg', 'b.jpg'), classes=('cat', 'dog')):
    """Write an annotation file and the images it lists, empty files."""
    (root / img).mkdir(parents=True, exist_ok=True)
    for name in names:
        path = root / img / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    data = {
        'images': [
            dict(id=i, file_name=name, width=9, height=9)
            for i, name in enumerate(names)
        ],
        'annotations': [],
        'categories': [
            dict(id=9 - i, name=name) for i, name in enumerate(classes)
        ],
    }
    (root / ann).parent.mkdir(parents=True, exist_ok=True)
    (root / ann).write_text(json.dumps(data))


LAYOUTS = {
    'coco': [
        ('annotations/instances_train2017.json', 'train2017'),
        ('annotations/instances_val2017.json', 'val2017'),
    ],
    'roboflow': [
        ('train/_annotations.coco.json', 'train'),
        ('valid/_annotations.coco.json', 'valid'),
    ],
    'plain': [('train.json', '.'), ('val.json', '.')],
    'one folder': [
        ('annotations/train.json', 'images'),
        ('annotations/test.json', 'images'),
    ],
    'split folders': [
        ('annotations/train.json', 'images/train'),
        ('annotations/val.json', 'images/val'),
    ],
    'mmdet example': [
        ('annotations/annotation_coco_train.json', 'train/img'),
        ('annotations/annotation_coco_val.json', 'val/img'),
    ],
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_layout_is_detected(tmp_path, name):
    # Both splits use the same file names: only folder names tell.
    for ann, img in LAYOUTS[name]:
        put(tmp_path, ann, img)
    splits = find_coco_splits(tmp_path)
    found = [
        (split.ann_file, split.img_dir) for split in (splits.train, splits.val)
    ]
    assert found == [
        (tmp_path / ann, tmp_path / img) for ann, img in LAYOUTS[name]
    ]


def test_validation_is_preferred_to_test(tmp_path):
    for role in ('train', 'test', 'valid'):
        put(tmp_path, f'{role}/_annotations.coco.json', role)
    splits = find_coco_splits(tmp_path)
    assert splits.val.img_dir == tmp_path / 'valid'


def test_captions_and_keypoints_are_not_taken(tmp_path):
    for ann, img in LAYOUTS['coco']:
        put(tmp_path, ann, img)
        for other in ('captions', 'person_keypoints'):
            put(tmp_path, ann.replace('instances', other), img)
    splits = find_coco_splits(tmp_path)
    assert splits.train.ann_file.name == 'instances_train2017.json'


def test_file_names_with_folders_are_found(tmp_path):
    names = ('train2014/x.jpg', 'val2014/y.jpg')
    put(tmp_path, 'annotations/instances_train.json', '.', names)
    put(tmp_path, 'annotations/instances_val.json', '.', names)
    splits = find_coco_splits(tmp_path)
    assert splits.train.img_dir == splits.val.img_dir == tmp_path


def test_classes_are_in_the_order_of_the_file(tmp_path):
    # The ids descend here; MMDetection numbers labels by position.
    for ann, img in LAYOUTS['plain']:
        put(tmp_path, ann, img, classes=('zebra', 'ant', 'cat'))
    assert find_coco_splits(tmp_path).classes == ('zebra', 'ant', 'cat')


def test_given_names_win(tmp_path):
    put(tmp_path, 'annotations/train.json', 'images')
    put(tmp_path, 'special/first.json', 'pictures')
    put(tmp_path, 'special/second.json', 'photos')
    splits = find_coco_splits(
        tmp_path,
        train_ann='special/first.json',
        val_ann=str(tmp_path / 'special' / 'second.json'),
        train_img='pictures',
        val_img=str(tmp_path / 'photos'),
    )
    assert splits.train.ann_file == tmp_path / 'special/first.json'
    assert splits.train.img_dir == tmp_path / 'pictures'
    assert splits.val.ann_file == tmp_path / 'special/second.json'
    assert splits.val.img_dir == tmp_path / 'photos'


def test_train_split_alone_is_an_error_with_the_way_out(tmp_path):
    put(tmp_path, 'annotations/train.json', 'images')
    with pytest.raises(DatasetError, match='--val-ann') as error:
        find_coco_splits(tmp_path)
    assert 'found annotations/train.json' in str(error.value)
    splits = find_coco_splits(tmp_path, val_ann='annotations/train.json')
    assert splits.val == splits.train


def test_subset_of_the_classes_may_be_validated(tmp_path):
    put(tmp_path, 'train.json', '.', classes=('cat', 'dog'))
    put(tmp_path, 'val.json', '.', classes=('dog',))
    assert find_coco_splits(tmp_path).classes == ('cat', 'dog')


def test_class_unknown_in_training_is_an_error(tmp_path):
    put(tmp_path, 'train.json', '.', classes=('cat', 'dog'))
    put(tmp_path, 'val.json', '.', classes=('cat', 'bird'))
    with pytest.raises(DatasetError, match=r'lacks: bird; .* lists cat, dog'):
        find_coco_splits(tmp_path)


def test_repaired_copies_of_a_run_below_the_root_are_not_taken(tmp_path):
    put(tmp_path, 'annotations/train.json', 'train')
    put(tmp_path, 'annotations/val.json', 'val')
    before = find_coco_splits(tmp_path)
    copies = tmp_path / 'runs'
    copies.mkdir()
    for split in 'train', 'val':
        shutil.copy(
            tmp_path / 'annotations' / f'{split}.json',
            copies / f'annotations_{split}.checked.json',
        )
    assert find_coco_splits(tmp_path) == before


def test_nothing_is_guessed_between_two_files(tmp_path):
    put(tmp_path, 'annotations/instances_train2014.json', 'images')
    put(tmp_path, 'annotations/instances_train2017.json', 'images')
    with pytest.raises(DatasetError, match=r'several .* --train-ann FILE'):
        find_coco_splits(tmp_path)


def test_nothing_is_guessed_between_two_folders(tmp_path):
    put(tmp_path, 'annotations/train.json', 'small')
    put(tmp_path, 'annotations/train.json', 'big')
    put(tmp_path, 'annotations/val.json', 'other', ('c.jpg',))
    with pytest.raises(DatasetError, match=r'several .* --train-img DIR'):
        find_coco_splits(tmp_path)
    splits = find_coco_splits(tmp_path, train_img='big')
    assert splits.train.img_dir == tmp_path / 'big'


def test_images_in_no_folder_are_named(tmp_path):
    put(tmp_path, 'annotations/train.json', 'images')
    put(tmp_path, 'annotations/val.json', 'images')
    shutil.rmtree(tmp_path / 'images')
    with pytest.raises(DatasetError, match=r"no folder .*'a\.jpg'") as error:
        find_coco_splits(tmp_path)
    assert '--train-img' in str(error.value)


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(train_ann='no.json'), r'--train-ann no\.json: .* no such file'),
        (dict(val_img='none'), '--val-img none: .* no such folder'),
    ],
)
def test_given_name_that_is_absent_is_an_error(tmp_path, given, message):
    for ann, img in LAYOUTS['plain']:
        put(tmp_path, ann, img)
    with pytest.raises(DatasetError, match=message):
        find_coco_splits(tmp_path, **given)


def test_empty_and_absent_folders_are_errors(tmp_path):
    with pytest.raises(DatasetError, match=r'found no \.json file'):
        find_coco_splits(tmp_path)
    with pytest.raises(DatasetError, match='is no folder'):
        find_coco_splits(tmp_path / 'absent')


def test_category_twice_is_an_error(tmp_path):
    for ann, img in LAYOUTS['plain']:
        put(tmp_path, ann, img, classes=('cat', 'cat'))
    with pytest.raises(DatasetError, match=r"categories\[1\] .*'cat'"):
        find_coco_splits(tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    'name, train, val, num_classes',
    [
        (
            'coco_mini',
            ('annotations/instances_train2017.json', 'train2017'),
            ('annotations/instances_val2017.json', 'val2017'),
            80,
        ),
        (
            'bccd',
            ('annotations/train.json', 'images'),
            ('annotations/test.json', 'images'),
            3,
        ),
    ],
)
def test_real_sets_are_detected(real_data, name, train, val, num_classes):
    root = real_data / name
    splits = find_coco_splits(root)
    assert splits.train == (root / train[0], root / train[1])
    assert splits.val == (root / val[0], root / val[1])
    assert len(splits.classes) == num_classes
