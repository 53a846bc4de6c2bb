"""Splits, images and classes in what common tools write.

Which splits are found in which layout is in `test_layouts`.
"""

import ntpath
import os
from types import SimpleNamespace

import numpy as np
import pytest
from coco_files import (
    BOX,
    SIZE,
    picture,
    put,
    read_test,
    write_coco,
)
from PIL import Image
from trees import coco, pictures, tree, yolo

from mmdet_shufflenetv2.data import listing
from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.listing import role_of
from mmdet_shufflenetv2.data.reading import read_boxes, report
from mmdet_shufflenetv2.data.split import split_off
from mmdet_shufflenetv2.data.table import DatasetError


def test_roles_follow_from_words_in_names():
    assert role_of('a/train2017/x.json') == 'train'
    assert role_of('valid/_annotations.coco.json') == 'val'
    assert role_of('train/minival.json') == 'val'
    assert role_of('contest/latest.json') is None
    assert role_of('train_val.json') is None


def test_loops_and_unreadable_folders_are_passed_over(tmp_path):
    tree(tmp_path, coco('ab', 'a.json'))
    (tmp_path / 'loop').symlink_to(tmp_path)
    (tmp_path / 'lost+found').mkdir(mode=0)
    assert len(read_test(tmp_path)) == 2


def test_class_with_boxes_that_training_lacks_is_an_error(tmp_path):
    put(tmp_path, 'train.json', '.', classes=('cat', 'dog'))
    put(tmp_path, 'val.json', '.', classes=('cat', 'bird'))
    message = r'lacks: bird \(1 boxes\).* instead: --val-fraction 0\.2'
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)
    assert find_data(tmp_path, val_fraction=0.2).classes == ('cat', 'dog')
    put(tmp_path, 'val.json', '.', ('a.jpg',), classes=('dog', 'bird'))
    assert find_data(tmp_path).classes == ('cat', 'dog')


def test_absent_folder_or_file_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match='is not a folder'):
        find_data(tmp_path / 'absent')
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


def test_each_split_has_its_own_list_of_class_names(tmp_path):
    """The first list was once used for both."""
    for name, text in ('train', 'cat\ndog'), ('val', 'dog\ncat'):
        tree(tmp_path, yolo(f'{name}/abcdef'))
        (tmp_path / name / 'classes.txt').write_text(text)
    splits = find_data(tmp_path)
    assert read_boxes(splits.train).classes == ('cat', 'dog')
    assert read_boxes(splits.val).classes == ('dog', 'cat')
    (tmp_path / 'obj.names').write_text('cat\nbird')
    with pytest.raises(DatasetError, match=r'several lists .* --train-ann'):
        find_data(tmp_path)


def test_other_yaml_files_and_old_encodings_of_names(tmp_path):
    tree(tmp_path, yolo())
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
    tree(tmp_path, yolo())
    (tmp_path / 'data.yaml').write_text(f'train: images\nnames: {text}\n')
    assert find_data(tmp_path).classes == names


def test_lines_that_are_not_boxes_are_named(tmp_path):
    tree(tmp_path, yolo())
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    good = '0 0.35 0.4 0.5 0.4 0.93', '1 0.1 0.2 0.6 0.2 0.6 0.6 0.1 0.6'
    bad = (
        '7 0.5 0.5 0.1 0.1',
        '0 0.5 0.5',
        '0 14 12 20 12',
        '1.5 0.5 0.5 0.1 0.1',
        '0 0.5 x 0.1 0.1',
        # Keypoints, seen (1) or hidden (2), or a score and a track.
        '0 0.5 0.5 0.1 0.1 0.5 0.5 1',
        '0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.6 0.6 2',
        '0 0.5 0.5 0.1 0.1 0.93 7',
    )
    text = '\n'.join(('', *bad, *good))
    (tmp_path / 'labels' / 'a.txt').write_text(text)
    table = read_test(tmp_path)
    mine = table.image == table.names.index('a.jpg')
    assert table.boxes[mine].tolist() == [BOX] * 2
    assert sum(table.errors.counts.values()) == len(bad)
    for line in range(2, 7):
        assert f'a.txt, line {line}: ' in str(table.errors)
    assert '(keypoints need kpt_shape' in str(table.errors)


def test_keypoints_are_not_read_as_a_polygon(tmp_path):
    tree(tmp_path, yolo())
    (tmp_path / 'labels' / 'a.txt').write_text(
        '0 0.35 0.4 0.5 0.4 0.1 0.1 0.9 0.9'
    )
    (tmp_path / 'data.yaml').write_text(
        'val: images\nnames: [cat, dog]\nkpt_shape: [2, 2]\n'
    )
    table = read_test(tmp_path)
    mine = table.image == table.names.index('a.jpg')
    assert table.boxes[mine].tolist() == [BOX]


def test_text_files_beside_labels_are_not_taken_for_them(
    tmp_path, monkeypatch
):
    tree(tmp_path, yolo('abcdef'))
    (tmp_path / 'README.txt').write_text('Blood cells, 2019\n')
    monkeypatch.chdir(tmp_path)
    found = find_data('.')
    assert len(read_boxes(found.train).boxes) == 4
    assert not [note for note in found.notes if 'label files' in note]
    assert found.classes == ('class_0', 'class_1')


def test_many_images_without_labels_come_first(tmp_path):
    """Of each folder only the first 50 files were once looked at."""
    tree(tmp_path, yolo('images/z'))
    for index in range(60):
        picture(tmp_path / 'images' / f'a{index}.jpg')
    table = read_test(tmp_path)
    assert len(table) == 61
    assert table.warnings.counts['image without a label file'] == 60


def test_labels_that_two_folders_share_are_a_warning(tmp_path):
    tree(tmp_path, yolo('photos/abcdef', 'labels') | pictures('masks/abcdef'))
    counts = read_boxes(find_data(tmp_path).train).warnings.counts
    assert counts['image that shares its label file'] == 12


def test_yaml_file_cannot_refer_to_data_outside_the_folder(tmp_path):
    tree(tmp_path, yolo('other/images/a root/images/a'))
    root = tmp_path / 'root'
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
    tree(tmp_path, yolo('images/a'))
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', SIZE).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    assert read_test(tmp_path).sizes.tolist() == [[30, 40]]
    stored = read_test(tmp_path, exif='ignore')
    assert stored.sizes.tolist() == [[40, 30]]
    assert stored.boxes.tolist() == [BOX]
