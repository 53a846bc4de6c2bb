"""Finding splits in the layouts and exports of common tools."""

import ntpath
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from coco_files import (
    BOX,
    SIX,
    SIZE,
    check_two_classes,
    picture,
    put,
    read_test,
    write_coco,
)
from PIL import Image

from mmdet_shufflenetv2.data import listing
from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.listing import role_of
from mmdet_shufflenetv2.data.reading import read_boxes, report
from mmdet_shufflenetv2.data.split import split_off
from mmdet_shufflenetv2.data.table import DatasetError

COCO_LAYOUTS = {
    'coco': [
        ('annotations/instances_train2017.json', 'train2017'),
        ('annotations/instances_val2017.json', 'val2017'),
    ],
    'roboflow': [
        ('train/_annotations.coco.json', 'train'),
        ('valid/_annotations.coco.json', 'valid'),
    ],
    'plain': [('train.json', '.'), ('val.json', '.')],
    'two CVAT tasks': [
        ('train/annotations/instances_default.json', 'train/images'),
        ('val/annotations/instances_default.json', 'val/images'),
    ],
}


@pytest.mark.parametrize('name', COCO_LAYOUTS)
def test_coco_layout_is_detected(tmp_path, name):
    # Both splits use the same file names: only their folders differ.
    for ann, img in COCO_LAYOUTS[name]:
        put(tmp_path, ann, img)
    splits = find_data(tmp_path)
    assert splits.val.format == 'COCO'
    for split, (ann, img) in zip(splits, COCO_LAYOUTS[name], strict=False):
        assert split.ann == str(tmp_path / ann)
        folders = {os.path.dirname(path) for path in read_boxes(split).files}
        assert folders == {os.path.normpath(tmp_path / img)}


def test_roles_follow_from_words_in_names():
    assert role_of('a/train2017/x.json') == 'train'
    assert role_of('valid/_annotations.coco.json') == 'val'
    assert role_of('train/minival.json') == 'val'
    assert role_of('contest/latest.json') is None
    assert role_of('train_val.json') is None


def test_other_files_and_folders_are_ignored(tmp_path):
    for ann, img in COCO_LAYOUTS['coco']:
        put(tmp_path, ann, img)
        for other in ('captions', 'person_keypoints'):
            put(tmp_path, ann.replace('instances', other), img)
    (tmp_path / 'train_settings.json').write_text('{"lr": 1}')
    # Label Studio's classes, and counts of some data set.
    (tmp_path / 'notes_train.json').write_text('{"categories": []}')
    (tmp_path / 'info_train.json').write_text('{"images": 4}')
    (tmp_path / 'compose.yml').write_text('- a\n')
    (tmp_path / 'settings.yml').write_text('- usernames\n')
    (tmp_path / '__MACOSX').mkdir()
    (tmp_path / '__MACOSX' / '._train.json').write_bytes(b'\0\1{"images"')
    (tmp_path / 'loop').symlink_to(tmp_path)
    (tmp_path / 'lost+found').mkdir(mode=0)
    splits = find_data(tmp_path)
    assert splits.train.ann.endswith('instances_train2017.json')


def test_coco_in_utf_16_is_found(tmp_path):
    put(tmp_path, 'a.json', '.')
    text = (tmp_path / 'a.json').read_text()
    (tmp_path / 'a.json').write_text(text, 'utf-16')
    assert len(read_test(tmp_path)) == 2


def test_unused_format_is_reported(tmp_path):
    put(tmp_path, 'train.json', '.')
    assert len(find_data(tmp_path).notes) == 2
    line = 'filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,4,6,24,18\n'
    (tmp_path / 'boxes.csv').write_text(line)
    note = 'CSV annotations were found too and are not used'
    assert find_data(tmp_path).notes[1] == note


def test_images_of_no_split_are_counted(tmp_path):
    put(tmp_path, 'train.json', 'train')
    put(tmp_path, 'val.json', 'val')
    picture(tmp_path / 'test' / 'a.jpg')
    assert len(find_data(tmp_path).notes) == 1
    for name in 'a.jpg', 'more/a.jpg', 'more/b.jpg', 'train/c.jpg':
        picture(tmp_path / name)
    note = find_data(tmp_path).notes[1]
    assert note.startswith('4 images in ., more, train are not used')


def test_class_with_boxes_that_training_lacks_is_an_error(tmp_path):
    put(tmp_path, 'train.json', '.', classes=('cat', 'dog'))
    put(tmp_path, 'val.json', '.', classes=('cat', 'bird'))
    message = r'lacks: bird \(1 boxes\).* instead: --val-fraction 0\.2'
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)
    assert find_data(tmp_path, val_fraction=0.2).classes == ('cat', 'dog')
    put(tmp_path, 'val.json', '.', ('a.jpg',), classes=('dog', 'bird'))
    assert find_data(tmp_path).classes == ('cat', 'dog')


@pytest.mark.parametrize(
    'files, message',
    [
        (
            [('a/train2014.json', 'images'), ('a/train2017.json', 'images')],
            r'several .* --train-ann FILE',
        ),
        (
            [('train.json', 'small'), ('train.json', 'big')],
            r'ambiguous; .* --train-img',
        ),
    ],
)
def test_ambiguous_files_are_an_error(tmp_path, files, message):
    for ann, img in files:
        put(tmp_path, ann, img)
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)


def test_missing_data_are_reported_with_a_remedy(tmp_path):
    with pytest.raises(DatasetError, match='is not a folder'):
        find_data(tmp_path / 'absent')
    with pytest.raises(DatasetError, match='found 0 images'):
        find_data(tmp_path)
    put(tmp_path, 'train.json', 'images')
    shutil.rmtree(tmp_path / 'images')
    message = r'no usable image\n.*--train-img (.|\n)*a\.jpg'
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)
    with pytest.raises(DatasetError, match=r'--train-ann no\.json: not found'):
        find_data(tmp_path, train_ann='no.json')


def test_training_images_are_tested_on_only_on_request(tmp_path):
    put(tmp_path, 'train/_annotations.coco.json', 'train')
    picture(tmp_path / 'test' / 'c.jpg')
    message = 'no annotations for test.*which may be the training file'
    with pytest.raises(DatasetError, match=message):
        read_test(tmp_path)
    given = 'train/_annotations.coco.json'
    assert read_test(tmp_path, val_ann=given).source.format == 'COCO'


def test_images_alone_can_be_predicted_on(tmp_path):
    picture(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').write_bytes(b'no picture')
    table = read_test(tmp_path)
    assert table.source.format == 'images'
    assert table.names == ['a.jpg']
    assert len(table.boxes) == 0
    assert 'b.jpg' in str(table.errors)


# Unchanged exports of other tools ----------------------------------------


@pytest.mark.parametrize(
    'form',
    [
        'images\\{}',
        '/data/upload/1/{}',
        '/data/local-files/?d=some/where/{}',
        'https://host.example/bucket/{}?X-Amz=1%2F2',
        'ds0/img/{}',
    ],
    ids=[
        'windows',
        'uploads',
        'local files',
        'URLs',
        'supervisely',
    ],
)
def test_paths_of_other_machines_are_matched_by_base_name(tmp_path, form):
    names = 'a b.jpg', 'c.jpg', 'd.jpg'
    for each in names:
        picture(tmp_path / 'images' / each)
    listed = [form.format(each) for each in names]
    if '://' in form:
        listed[0] = listed[0].replace(' ', '%20')
    write_coco(tmp_path / 'result.json', listed)
    table = read_test(tmp_path)
    assert [os.path.basename(file) for file in table.files] == list(names)
    assert report(table, strict=True) == []


@pytest.mark.parametrize('name', ['a%20b.jpg', 'what?.jpg'])
def test_names_that_look_like_parts_of_urls_are_found(tmp_path, name):
    put(tmp_path, 'x.json', 'images', [name])
    assert read_test(tmp_path).files == [str(tmp_path / 'images' / name)]


@pytest.mark.parametrize(
    'listed, folder, count',
    [
        ('a.jpg', 'train', 1),
        ('a.jpg', 'trainval', 0),
        ('a.jpg', 'images', 0),
        ('train/a.jpg', 'train', 0),
    ],
)
def test_image_of_another_split_is_used_with_a_warning(
    tmp_path, listed, folder, count
):
    picture(tmp_path / folder / 'a.jpg')
    write_coco(tmp_path / 'val.json', [listed])
    table = read_test(tmp_path)
    assert table.files == [str(tmp_path / folder / 'a.jpg')]
    assert sum(table.warnings.counts.values()) == count


def test_ambiguous_image_names_are_left_out(tmp_path):
    for name in 'one/a.jpg', 'two/a.jpg', 'b.jpg', 'c.jpg':
        picture(tmp_path / name)
    # The first matches two images; the next two match the same one.
    listed = '/data/a.jpg', '2023/b.jpg', '2024/b.jpg', '2023/c.jpg', 'c.jpg'
    write_coco(tmp_path / 'x.json', listed)
    table = read_test(tmp_path)
    assert table.names == ['c.jpg']
    for name in listed[:4]:
        assert str(table.errors).count(name) == 1


def test_paths_have_one_kind_of_slash_on_windows(monkeypatch):
    """Mixed ones differed from the same paths written otherwise."""
    monkeypatch.setattr(listing, 'walk', lambda _: [('a/b', ['x.jpg'])])
    monkeypatch.setattr(listing, 'os', SimpleNamespace(path=ntpath))
    found = listing.Listing(['C:\\d']).find_all(
        ['a/b/x.jpg', 'c/x.jpg'], 'C:\\d\\y.json'
    )
    assert found == {'a/b/x.jpg': 'C:\\d\\a\\b\\x.jpg', 'c/x.jpg': None}


@pytest.mark.parametrize(
    'ann, listed, other, image',
    [
        # Kaggle paths of two cameras' images with the same numbers.
        ('boxes.json', '/kaggle/one/a.jpg', 'img/two/a.jpg', 'img/one/a.jpg'),
        ('annotations/val.json', 'a.jpg', 'train/a.jpg', 'img/val/a.jpg'),
        ('two/ann/x.json', 'a.jpg', 'one/a.jpg', 'two/img/a.jpg'),
        ('annotations/val.json', 'a.jpg', 'a.jpg', 'val/a.jpg'),
        ('sub/x.json', 'a.jpg', 'a.jpg', 'sub/a.jpg'),
        # LabelMe's drawings, which once left no image in use.
        (
            'xml/x.json',
            'a.jpg',
            'AnnotationsVisualization/a.jpg',
            'JPEGImages/a.jpg',
        ),
        ('x.json', 'a.jpg', 'thumbs/a.jpg', 'images/a.jpg'),
    ],
)
def test_most_likely_of_images_with_equal_names_is_used(
    tmp_path, ann, listed, other, image
):
    for path in other, image:
        picture(tmp_path / path)
    write_coco(tmp_path / ann, [listed])
    table = read_test(tmp_path, val_ann=ann)
    assert table.files == [str(tmp_path / image)]


@pytest.mark.parametrize(
    'rows, classes',
    [
        # Roboflow's group is not a class; a class without boxes is one.
        ([('cells', 'none'), ('RBC', 'cells'), ('WBC', 'cells')], 'RBC WBC'),
        ([('cat', ['pet']), ('dog', {}), ('cow', None)], 'cat dog cow'),
        (
            [('cat', 'animal'), ('person', 'person'), ('unused', 'none')],
            'cat person unused',
        ),
        # Roboflow's group of a single class, which once was refused.
        ([('cat', 'none'), ('cat', 'cat'), ('dog', 'cat')], 'cat dog'),
    ],
)
def test_only_the_group_of_all_classes_is_left_out(tmp_path, rows, classes):
    put(tmp_path, 'train.json', '.')
    categories = [
        dict(id=i, name=name, supercategory=group)
        for i, (name, group) in zip((7, 9, 8), rows, strict=True)
    ]
    write_coco(tmp_path / 'train.json', ['a.jpg'], categories=categories)
    splits = find_data(tmp_path, val_ann='train.json')
    assert splits.classes == tuple(classes.split())


def write_yolo(folder, names=SIX, labels='labels', images='images'):
    for index, name in enumerate(names):
        picture(folder / images / name)
        path = folder / labels / (os.path.splitext(name)[0] + '.txt')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{index % 2} 0.35 0.4 0.5 0.4\n')


@pytest.mark.parametrize(
    'train, val, yaml',
    [
        ('images/train', 'images/val', 'path: .\ntrain: {}\nval: {}\n'),
        ('train/images', 'valid/images', 'train: ../{}\nval: ../{}\n'),
        ('images/train', 'images/val', 'train: [./{}/]\nval: [{}]\n'),
        ('images/train', 'images/val', 'train: ../set/{}\nval: ../set/{}\n'),
        ('train/images', 'val/images', 'train: /no/set/{}\nval: /no/set/{}\n'),
        (
            'train/images',
            'val/images',
            'train: C:\\set\\{}\nval: C:\\set\\{}\n',
        ),
    ],
    ids=[
        'ultralytics',
        'roboflow',
        'fiftyone',
        'supervisely',
        'other machine',
        'windows',
    ],
)
def test_yolo_with_a_yaml_file_is_read(tmp_path, train, val, yaml):
    for images in train, val:
        labels = images.replace('images', 'labels')
        write_yolo(tmp_path, ('a.jpg', 'b.jpg'), labels, images)
    text = f'{yaml.format(train, val)}nc: 2\nnames: {{0: cat, 1: dog}}\n'
    (tmp_path / 'data.yaml').write_text(text)
    splits = find_data(tmp_path)
    check_two_classes(splits)
    assert splits.val.images == (str(tmp_path / val),)


def test_each_split_has_its_own_list_of_class_names(tmp_path):
    """The first list was once used for both."""
    for name, text in ('train', 'cat\ndog'), ('val', 'dog\ncat'):
        write_yolo(tmp_path, SIX, name, name)
        (tmp_path / name / 'classes.txt').write_text(text)
    splits = find_data(tmp_path)
    assert read_boxes(splits.train).classes == ('cat', 'dog')
    assert read_boxes(splits.val).classes == ('dog', 'cat')
    (tmp_path / 'obj.names').write_text('cat\nbird')
    with pytest.raises(DatasetError, match=r'several lists .* --train-ann'):
        find_data(tmp_path)


def test_other_yaml_files_and_old_encodings_of_names(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / 'config.yaml').write_text('usernames: [bob]\n')
    (tmp_path / 'compose.yaml').write_text('- usernames\n')
    (tmp_path / 'classes.txt').write_bytes(b'caf\xe9\ndog\n')
    assert find_data(tmp_path).classes == ('café', 'dog')


@pytest.mark.parametrize(
    'text, names',
    [
        ('[no, yes]', ('no', 'yes')),
        ('{0: on, 1: 007}', ('on', '007')),
    ],
)
def test_yaml_names_stay_text(tmp_path, text, names):
    write_yolo(tmp_path)
    (tmp_path / 'data.yaml').write_text(f'train: images\nnames: {text}\n')
    assert find_data(tmp_path).classes == names


@pytest.mark.parametrize(
    'train, message',
    [
        ('[images/a, images/b]', 'got images/b$'),
        ('[a.txt, images/a]', r'got a\.txt$'),
    ],
)
def test_part_of_a_split_in_a_yaml_file_is_not_ignored(
    tmp_path, train, message
):
    write_yolo(tmp_path, SIX, 'labels/a', 'images/a')
    (tmp_path / 'a.txt').write_text('images/a/a.jpg')
    (tmp_path / 'data.yaml').write_text(f'train: {train}\nnames: [cat, dog]')
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)


def test_end_of_a_path_must_name_the_same_split(tmp_path):
    write_yolo(tmp_path, SIX, 'val/labels', 'val/images')
    (tmp_path / 'data.yaml').write_text(
        'train: /no/train/images\nnames: [cat, dog]'
    )
    (tmp_path / 'images').symlink_to('val/images')
    with pytest.raises(DatasetError, match='got /no/train/images'):
        find_data(tmp_path)


def test_missing_split_in_a_yaml_file_is_ignored(tmp_path):
    """Roboflow's file always lists three splits, exported or not."""
    write_yolo(tmp_path / 'train')
    (tmp_path / 'data.yaml').write_text(
        'train: ../train/images\nval: ../valid/images\n'
        'test: ../test/images\nnames: [cat, dog]\n'
    )
    check_two_classes(find_data(tmp_path))


def test_lines_that_are_not_boxes_are_named(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    good = '0 0.35 0.4 0.5 0.4 0.93', '1 0.1 0.2 0.6 0.2 0.6 0.6 0.1 0.6'
    bad = (
        '7 0.5 0.5 0.1 0.1',
        '0 0.5 0.5',
        '0 14 12 20 12',
        '1.5 0.5 0.5 0.1 0.1',
        '0 0.5 x 0.1 0.1',
    )
    text = '\n'.join(('', *bad, *good))
    (tmp_path / 'labels' / 'a.txt').write_text(text)
    table = read_test(tmp_path)
    mine = table.image == table.names.index('a.jpg')
    assert table.boxes[mine].tolist() == [BOX] * 2
    for line in range(2, 2 + len(bad)):
        assert f'a.txt, line {line}: ' in str(table.errors)


def test_keypoints_are_not_read_as_a_polygon(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / 'labels' / 'a.txt').write_text(
        '0 0.35 0.4 0.5 0.4 0.1 0.1 0.9 0.9'
    )
    (tmp_path / 'data.yaml').write_text(
        'val: images\nnames: [cat, dog]\nkpt_shape: [2, 2]\n'
    )
    table = read_test(tmp_path)
    mine = table.image == table.names.index('a.jpg')
    assert table.boxes[mine].tolist() == [BOX]


@pytest.mark.parametrize(
    'line',
    ['0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.6 0.6 2', '0 0.5 0.5 0.1 0.1 0.93 7'],
    ids=['pose without kpt_shape', 'score and track'],
)
def test_box_followed_by_other_numbers_is_not_a_polygon(tmp_path, line):
    write_yolo(tmp_path)
    (tmp_path / 'labels' / 'a.txt').write_text(line)
    assert '(keypoints need kpt_shape' in str(read_test(tmp_path).errors)


def test_yolo_lists_of_images_are_followed(tmp_path):
    write_yolo(tmp_path, ('a.jpg', 'b.jpg', 'c.jpg'))
    for name, lines in ('train', 'ab'), ('val', 'c'):
        text = ''.join(f'./images/{line}.jpg\n' for line in lines)
        (tmp_path / f'{name}.txt').write_text(text)
    (tmp_path / 'data.yaml').write_text(
        'train: train.txt\nval: val.txt\nnames: [cat, dog]\n'
    )
    splits = find_data(tmp_path)
    assert len(check_two_classes(splits)) == 2
    assert read_boxes(splits.val).names == ['images/c.jpg']


@pytest.mark.parametrize(
    'images, labels, names_file',
    [
        ('images', 'labels', 'classes.txt'),
        ('obj_train_data', 'obj_train_data', 'obj.names'),
        ('.', '.', 'classes.txt'),
        ('.', 'labels_task_2024', 'classes.txt'),
        ('Images', 'Labels', 'classes.txt'),
        ('images', 'annotations', 'classes.txt'),
        ('images', 'labels', None),
    ],
    ids=[
        'label studio',
        'cvat',
        'one folder',
        'makesense',
        'capitals',
        'annotations',
        'no names',
    ],
)
def test_yolo_without_a_yaml_file_is_read(
    tmp_path, images, labels, names_file
):
    write_yolo(tmp_path, SIX, labels, images)
    if names_file:
        (tmp_path / names_file).write_text('cat\ndog\n')
        check_two_classes(find_data(tmp_path))
    else:
        assert find_data(tmp_path).classes == ('class_0', 'class_1')


def test_darknet_lists_are_followed(tmp_path):
    """Test images were once trained on."""
    # The share 0.35 in the labels is not the image 0.jpg.
    write_yolo(tmp_path, ('a.jpg', '0.jpg', 'train_c.jpg'), 'obj', 'obj')
    (tmp_path / 'obj.names').write_text('cat\ndog\n')
    assert not find_data(tmp_path).train.image_list
    (tmp_path / 'train.txt').write_text('obj/train_c.jpg\nobj/0.jpg\n')
    (tmp_path / 'test.txt').write_text('C:\\obj\\a.jpg\n')
    splits = find_data(tmp_path)
    assert read_boxes(splits.train).names == ['0.jpg', 'train_c.jpg']
    assert read_boxes(splits.val).names == ['a.jpg']


@pytest.mark.parametrize(
    'image, label',
    [
        # Decomposed by macOS, composed by the annotation tool.
        ('e\u0301.jpg', '\u00e9.txt'),
        ('IMG_1.JPG', 'img_1.txt'),
    ],
)
def test_label_names_differ_in_case_or_unicode_form(tmp_path, image, label):
    write_yolo(tmp_path, ('a.jpg', image))
    stem = os.path.splitext(image)[0]
    labels = tmp_path / 'labels'
    (labels / f'{stem}.txt').rename(labels / label)
    assert len(read_test(tmp_path).boxes) == 2


def test_labels_without_an_image_are_named(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / 'labels' / 'classes.txt').write_text('cat\ndog\n')
    assert len(find_data(tmp_path).notes) == 2
    (tmp_path / 'images' / 'a.jpg').rename(tmp_path / 'images' / 'a.gif')
    note = find_data(tmp_path).notes[-1]
    assert note == '1 label files have no image: labels/a.txt'


def test_text_files_beside_labels_are_not_taken_for_them(
    tmp_path, monkeypatch
):
    write_yolo(tmp_path, labels='.', images='.')
    (tmp_path / 'README.txt').write_text('Blood cells, 2019\n')
    monkeypatch.chdir(tmp_path)
    found = find_data('.')
    assert len(read_boxes(found.train).boxes) == 4
    assert not [note for note in found.notes if 'label files' in note]


def test_a_folder_of_other_images_claims_no_labels(tmp_path):
    for split in 'train', 'val':
        write_yolo(tmp_path, labels=f'labels/{split}', images=split)
    picture(tmp_path / 'images' / 'logo.png')
    found = find_data(tmp_path)
    assert len(read_boxes(found.train).boxes) == len(SIX)
    assert len(read_boxes(found.val).boxes) == len(SIX)


def test_one_folder_of_labels_serves_folders_of_images(tmp_path):
    write_yolo(tmp_path, SIX[:4], images='images/train')
    write_yolo(tmp_path, SIX[4:], images='images/val')
    found = find_data(tmp_path)
    assert len(read_boxes(found.train).boxes) == 4
    assert len(read_boxes(found.val).boxes) == 2


def test_yaml_file_of_another_set_is_passed_over(tmp_path):
    write_yolo(tmp_path, images='images/train', labels='labels/train')
    names = 'names: [cat, dog]\n'
    (tmp_path / 'coco.yaml').write_text(f'train: train2017.txt\n{names}')
    (tmp_path / 'data.yaml').write_text(f'train: images/train\n{names}')
    assert read_boxes(find_data(tmp_path).train).source.ann.endswith(
        'data.yaml'
    )


def test_many_images_without_labels_come_first(tmp_path):
    """Of each folder only the first 50 files were once looked at."""
    write_yolo(tmp_path, ('z.jpg',))
    for index in range(60):
        picture(tmp_path / 'images' / f'a{index}.jpg')
    table = read_test(tmp_path)
    assert len(table) == 61
    assert table.warnings.counts['image without a label file'] == 60


def test_labels_belong_to_the_folder_images(tmp_path):
    """Masks with the names of the photographs were once trained on."""
    write_yolo(tmp_path)
    for name in SIX:
        picture(tmp_path / 'masks' / name)
    splits = find_data(tmp_path)
    assert splits.train.images == (str(tmp_path / 'images'),)
    (tmp_path / 'images').rename(tmp_path / 'photos')
    table = read_boxes(find_data(tmp_path).train)
    assert table.warnings.counts['image that shares its label file'] == 12


def test_images_of_nested_folders_are_listed_once(tmp_path):
    """They once were trained on twice and held out as well."""
    write_yolo(tmp_path, SIX[:3])
    write_yolo(tmp_path, SIX, 'labels/more', 'images/more')
    splits = find_data(tmp_path)
    files = [f for part in splits[:2] for f in read_boxes(part).files]
    assert len(files) == len({*files}) == 9


def test_yaml_file_cannot_refer_to_data_outside_the_folder(tmp_path):
    write_yolo(tmp_path / 'other', ('a.jpg',))
    root = tmp_path / 'root'
    write_yolo(root, ('a.jpg',))
    (root / 'data.yaml').write_text(
        f'path: {tmp_path}/other\ntrain: {tmp_path}/other/images\n'
        'names: [cat]\n'
    )
    with pytest.raises(DatasetError, match='or else lists of images, below'):
        find_data(root)


# Images held out for validation -----------------------------------------


def test_each_class_is_in_both_parts_and_seeds_differ(coco):
    one = coco.data['annotations'][0]
    coco.data['images'] = [
        dict(id=i, file_name=f'{i}.png', width=40, height=30)
        for i in range(100)
    ]
    coco.data['categories'] = [dict(id=i, name=f'class {i}') for i in range(3)]
    # 100 images of a common class, 10 and 2 of rarer ones.
    coco.data['annotations'] = [
        dict(one, image_id=i, category_id=label)
        for label, step in enumerate((1, 10, 50))
        for i in range(0, 100, step)
    ]
    coco.write()
    table = coco.read()
    part = split_off(table, 0.2, seed=0)
    assert part.sum() == 20
    for label in range(3):
        sides = part[table.image[table.labels == label]]
        assert sides.any()
        assert not sides.all()
    assert (part == split_off(table, 0.2, seed=0)).all()
    assert (part != split_off(table, 0.2, seed=1)).any()


# The same boxes in every format -----------------------------------------


OBJECT = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def convert(table, root, kind):
    """Write a table as YOLO, VOC or CSV."""
    for name in 'images', 'labels':
        (root / name).mkdir()
    if kind == 'YOLO':
        names = ', '.join(table.classes)
        (root / 'data.yaml').write_text(f'train: images\nnames: [{names}]\n')
    for index, (name, path) in enumerate(
        zip(table.names, table.files, strict=True)
    ):
        (root / 'images' / name).symlink_to(path)
        mine, size = table.image == index, table.sizes[index]
        labels, low = table.labels[mine], table.boxes[mine, :2]
        extent = table.boxes[mine, 2:]
        file = root / 'labels' / name[:-4]
        if kind == 'YOLO':
            shares = np.hstack([(low + extent / 2) / size, extent / size])
            rows = np.hstack([labels[:, None], shares])
            np.savetxt(f'{file}.txt', rows, '%d %.6f %.6f %.6f %.6f')
            continue
        corners = np.hstack([low, low + extent]).tolist()
        if kind == 'CSV':
            with (root / 'boxes.csv').open('a') as csv:
                for label, box in zip(labels, corners, strict=True):
                    words = name, *map(str, box), table.classes[label]
                    csv.write(','.join(words) + '\n')
            continue
        objects = ''.join(
            OBJECT.format(table.classes[label], *box)
            for label, box in zip(labels, corners, strict=True)
        )
        width, height = size
        file.with_suffix('.xml').write_text(
            f'<annotation><filename>{name}</filename><size><width>{width}'
            f'</width><height>{height}</height></size>{objects}</annotation>'
        )


@pytest.mark.real_data
@pytest.mark.parametrize('kind', ['YOLO', 'VOC', 'CSV'])
def test_bccd_gives_the_same_table_in_every_format(real_data, tmp_path, kind):
    expected = read_boxes(find_data(real_data / 'bccd').train)
    convert(expected, tmp_path, kind)
    table = read_boxes(find_data(tmp_path).train._replace(part=None))
    assert table.source.format == kind
    assert table.classes == expected.classes
    assert table.names == expected.names
    for column in 'boxes', 'labels', 'image', 'sizes', 'crowd', 'area':
        same = getattr(table, column) == getattr(expected, column)
        assert same.all(), column


def test_fractions_refer_to_the_turned_picture(tmp_path):
    write_yolo(tmp_path, ('a.jpg',))
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', SIZE).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    assert read_test(tmp_path).sizes.tolist() == [[30, 40]]
    stored = read_test(tmp_path, exif='ignore')
    assert stored.sizes.tolist() == [[40, 30]]
    assert stored.boxes.tolist() == [BOX]
