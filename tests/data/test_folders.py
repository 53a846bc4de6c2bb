"""Where the data of a split is, in the layouts and exports that there are."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_shufflenetv2.data.folders import find_data, role_of
from mmdet_shufflenetv2.data.reading import read_boxes, report
from mmdet_shufflenetv2.data.split import split_off
from mmdet_shufflenetv2.data.table import DatasetError

SIZE = 40, 30
BOX = [4, 6, 20, 12]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))


def put(root, ann, img, names=('a.jpg', 'b.jpg'), classes=('cat', 'dog')):
    """Write a COCO file and the images it lists."""
    for name in names:
        picture(root / img / name)
    write_coco(root / ann, names, classes)


def write_coco(path, names, classes=('cat', 'dog'), **changes):
    """Annotation ids from 0; the class of an image is by its position."""
    data = {
        'images': [
            dict(id=i, file_name=name, width=SIZE[0], height=SIZE[1])
            for i, name in enumerate(names)
        ],
        'annotations': [
            dict(
                id=i,
                image_id=i,
                category_id=9 - i % len(classes),
                bbox=BOX,
                area=240,
                iscrowd=0,
            )
            for i in range(len(names))
        ],
        'categories': [
            dict(id=9 - i, name=name) for i, name in enumerate(classes)
        ],
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


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
    'two CVAT tasks': [
        ('train/annotations/instances_default.json', 'train/images'),
        ('val/annotations/instances_default.json', 'val/images'),
    ],
}


@pytest.mark.parametrize('name', COCO_LAYOUTS)
def test_coco_layout_is_detected(tmp_path, name):
    # Both splits use the same file names: only folder names tell.
    for ann, img in COCO_LAYOUTS[name]:
        put(tmp_path, ann, img)
    splits = find_data(tmp_path)
    assert splits.val.format == 'COCO'
    for split, (ann, img) in zip(
        (splits.train, splits.val), COCO_LAYOUTS[name], strict=True
    ):
        assert split.ann == str(tmp_path / ann)
        assert split.images == (str(tmp_path / img),)
        table = read_boxes(split)
        assert [os.path.dirname(file) for file in table.files] == (
            [os.path.normpath(tmp_path / img)] * 2
        )


def test_roles_are_told_by_words():
    assert role_of('a/train2017/x.json') == 'train'
    assert role_of('valid/_annotations.coco.json') == 'val'
    assert role_of('train/minival.json') == 'val'
    assert role_of('contest/latest.json') is None
    assert role_of('train_val.json') is None


def test_other_files_and_folders_are_passed_over(tmp_path):
    for ann, img in COCO_LAYOUTS['coco']:
        put(tmp_path, ann, img)
        for other in ('captions', 'person_keypoints'):
            put(tmp_path, ann.replace('instances', other), img)
    (tmp_path / 'train_settings.json').write_text('{"lr": 1}')
    (tmp_path / 'compose.yml').write_text('- a\n')
    (tmp_path / '__MACOSX').mkdir()
    (tmp_path / '__MACOSX' / '._train.json').write_bytes(b'\0\1{"images"')
    (tmp_path / 'loop').symlink_to(tmp_path)
    (tmp_path / 'lost+found').mkdir(mode=0)
    splits = find_data(tmp_path)
    assert splits.train.ann.endswith('instances_train2017.json')


def test_given_names_win(tmp_path):
    put(tmp_path, 'annotations/train.json', 'images')
    put(tmp_path, 'special/first.json', 'pictures')
    put(tmp_path, 'special/second.json', 'photos')
    splits = find_data(
        tmp_path,
        train_ann='special/first.json',
        val_ann=str(tmp_path / 'special' / 'second.json'),
        train_img='pictures',
        val_img=str(tmp_path / 'photos'),
    )
    assert splits.train.ann == str(tmp_path / 'special/first.json')
    assert splits.train.images == (str(tmp_path / 'pictures'),)
    assert splits.val.ann == str(tmp_path / 'special/second.json')
    assert splits.val.images == (str(tmp_path / 'photos'),)


def test_folders_above_the_data_do_not_tell_the_split(tmp_path):
    root = tmp_path / 'train'
    for name in 'train', 'val':
        put(root, f'{name[0]}.json', f'images/{name}')
    splits = find_data(root, train_ann='t.json', val_ann='v.json')
    assert splits.val.images == (str(root / 'images/val'),)


def test_class_that_training_lacks_is_an_error_where_it_has_boxes(tmp_path):
    put(tmp_path, 'train.json', '.', classes=('cat', 'dog'))
    put(tmp_path, 'val.json', '.', classes=('cat', 'bird'))
    with pytest.raises(DatasetError, match=r'lacks: bird \(1 boxes\)'):
        find_data(tmp_path)
    put(tmp_path, 'val.json', '.', ('a.jpg',), classes=('dog', 'bird'))
    assert find_data(tmp_path).classes == ('cat', 'dog')


@pytest.mark.parametrize(
    'files, message',
    [
        (
            [
                ('annotations/instances_train2014.json', 'images'),
                ('annotations/instances_train2017.json', 'images'),
            ],
            r'several .* --train-ann FILE',
        ),
        (
            [
                ('annotations/train.json', 'small'),
                ('annotations/train.json', 'big'),
            ],
            r'several .* --train-img DIR',
        ),
    ],
)
def test_nothing_is_guessed_between_equals(tmp_path, files, message):
    for ann, img in files:
        put(tmp_path, ann, img)
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)


def test_what_is_missing_is_told_with_the_way_out(tmp_path):
    with pytest.raises(DatasetError, match='is not a folder'):
        find_data(tmp_path / 'absent')
    with pytest.raises(DatasetError, match='found 0 images'):
        find_data(tmp_path)
    put(tmp_path, 'train.json', 'images')
    shutil.rmtree(tmp_path / 'images')
    with pytest.raises(DatasetError, match=r"no folder .*'a\.jpg'") as error:
        find_data(tmp_path)
    assert '--train-img' in str(error.value)
    for given, message in (
        (dict(train_ann='no.json'), r'--train-ann no\.json.* no such file'),
        (dict(train_img='none'), '--train-img none.* no such folder'),
    ):
        with pytest.raises(DatasetError, match=message):
            find_data(tmp_path, **given)


def test_training_images_are_not_tested_on_unasked(tmp_path):
    put(tmp_path, 'train/_annotations.coco.json', 'train')
    picture(tmp_path / 'test' / 'c.jpg')
    with pytest.raises(DatasetError, match='no annotations for test') as error:
        find_data(tmp_path, ('test',))
    assert '--val-ann FILE, that of training included' in str(error.value)
    given = dict(val_ann='train/_annotations.coco.json')
    assert find_data(tmp_path, ('test',), **given).val.format == 'COCO'


def test_images_alone_can_be_predicted_on(tmp_path):
    picture(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').write_bytes(b'no picture')
    splits = find_data(tmp_path, ('test',))
    assert splits.val.format == 'images'
    table = read_boxes(splits.val)
    assert table.names == ['a.jpg']
    assert len(table.boxes) == 0
    assert 'b.jpg' in str(table.errors)


# Exports of other tools, as they are ------------------------------------

EXPORTED_NAMES = {
    'label studio on Windows': 'images\\{}',
    'label studio uploads': '/data/upload/1/{}',
    'label studio local files': '/data/local-files/?d=some/where/{}',
    'label studio URLs': 'https://host.example/bucket/{}?X-Amz=1%2F2',
    'supervisely': 'ds0/img/{}',
    'another machine': '/home/me/project/{}',
    'labelme2coco': './{}',
}


@pytest.mark.parametrize('name', EXPORTED_NAMES)
def test_names_of_other_machines_are_matched_by_their_end(tmp_path, name):
    names = 'a b.jpg', 'c.jpg', 'd.jpg'
    for each in names:
        picture(tmp_path / 'images' / each)
    listed = [EXPORTED_NAMES[name].format(each) for each in names]
    if 'URL' in name:
        listed[0] = listed[0].replace(' ', '%20')
    write_coco(tmp_path / 'result.json', listed)
    table = read_boxes(find_data(tmp_path, ('test',)).val)
    found = [os.path.basename(file) for file in table.files]
    assert found == list(names)
    assert report(table, strict=True) == []


def test_end_of_a_name_that_several_files_share_is_not_guessed(tmp_path):
    for folder in 'one', 'two':
        picture(tmp_path / folder / 'a.jpg')
    picture(tmp_path / 'one' / 'b.jpg')
    write_coco(tmp_path / 'x.json', ['/data/a.jpg', '/data/b.jpg'])
    table = read_boxes(find_data(tmp_path, ('test',)).val)
    assert table.names == ['/data/b.jpg']
    assert 'several files are named a.jpg' in str(table.errors)


def test_two_names_of_one_file_are_not_both_taken(tmp_path):
    picture(tmp_path / 'a.jpg')
    picture(tmp_path / 'b.jpg')
    names = '2023/a.jpg', '2024/a.jpg', '2023/b.jpg', 'b.jpg'
    write_coco(tmp_path / 'x.json', names)
    table = read_boxes(find_data(tmp_path, ('test',)).val)
    # Which of the first two it is nobody knows.
    assert table.names == ['b.jpg']
    assert '2 x names that end alike' in str(table.errors)


def test_roboflows_group_row_is_no_class(tmp_path):
    for split in 'train', 'valid':
        for name in 'a.jpg', 'b.jpg':
            picture(tmp_path / split / name)
        write_coco(
            tmp_path / split / '_annotations.coco.json',
            ['a.jpg', 'b.jpg'],
            categories=[
                dict(id=0, name='cells', supercategory='none'),
                dict(id=9, name='RBC', supercategory='cells'),
                dict(id=8, name='WBC', supercategory='cells'),
            ],
        )
    splits = find_data(tmp_path)
    assert splits.classes == ('RBC', 'WBC')
    assert read_boxes(splits.train).labels.tolist() == [0, 1]


def test_unused_class_that_is_no_group_stays(tmp_path):
    put(tmp_path, 'train.json', '.')
    write_coco(
        tmp_path / 'train.json',
        ['a.jpg'],
        categories=[
            dict(id=9, name='cat', supercategory='animal'),
            dict(id=8, name='person', supercategory='person'),
            dict(id=7, name='unused', supercategory='none'),
        ],
    )
    splits = find_data(tmp_path, val_ann='train.json')
    assert splits.classes == ('cat', 'person', 'unused')


def write_yolo(folder, names, labels='labels', images='images'):
    for index, name in enumerate(names):
        picture(folder / images / name)
        path = folder / labels / (os.path.splitext(name)[0] + '.txt')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{index % 2} 0.35 0.4 0.5 0.4\n')


def check_two_classes(splits, names=('cat', 'dog')):
    assert splits.classes == tuple(names)
    table = read_boxes(splits.train)
    assert report(table, strict=True) == []
    assert table.boxes.tolist() == [[4, 6, 20, 12]] * len(table)
    letters = [os.path.basename(name)[0] for name in table.names]
    assert table.labels.tolist() == ['abcdef'.index(c) % 2 for c in letters]
    return table


@pytest.mark.parametrize(
    'train, val, yaml',
    [
        ('images/train', 'images/val', 'path: .\ntrain: {}\nval: {}\n'),
        ('train/images', 'valid/images', 'train: ../{}\nval: ../{}\n'),
        ('images/train', 'images/val', 'train: [./{}/]\nval: [{}]\n'),
    ],
    ids=['ultralytics', 'roboflow', 'fiftyone'],
)
@pytest.mark.parametrize('names', ['[cat, dog]', '{0: cat, 1: dog}'])
def test_yolo_of_a_yaml_file_is_read(tmp_path, train, val, yaml, names):
    for images in train, val:
        labels = images.replace('images', 'labels')
        write_yolo(tmp_path, ('a.jpg', 'b.jpg'), labels, images)
    text = f'{yaml.format(train, val)}nc: 2\nnames: {names}\n'
    (tmp_path / 'data.yaml').write_text(text)
    splits = find_data(tmp_path)
    assert splits.val.format == 'YOLO'
    check_two_classes(splits)
    assert read_boxes(splits.val).files[0] == str(tmp_path / val / 'a.jpg')


def test_split_that_a_yaml_file_lists_and_is_not_there_is_none(tmp_path):
    """Roboflow's file has three lines whatever was exported."""
    write_yolo(tmp_path / 'train', [f'{c}.jpg' for c in 'abcdef'])
    (tmp_path / 'data.yaml').write_text(
        'train: ../train/images\nval: ../valid/images\n'
        'test: ../test/images\nnames: [cat, dog]\n'
    )
    assert len(read_boxes(find_data(tmp_path).val)) == 2


def test_lines_that_are_no_boxes_are_named(tmp_path):
    write_yolo(tmp_path, [f'{c}.jpg' for c in 'abcdef'])
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    (tmp_path / 'labels' / 'a.txt').write_text(
        '0 0.35 0.4 0.5 0.4 0.93\n\n7 0.5 0.5 0.1 0.1\n0 0.5 0.5\n'
        '0 14 12 20 12\n1.5 0.5 0.5 0.1 0.1\n0 0.5 x 0.1 0.1\n'
        '1 0.1 0.2 0.6 0.2 0.6 0.6 0.1 0.6\n'
    )
    table = read_boxes(find_data(tmp_path, ('test',)).val)
    mine = table.image == table.names.index('a.jpg')
    assert table.boxes[mine].tolist() == [[4, 6, 20, 12]] * 2
    text = str(table.errors)
    for line, message in (
        (3, 'expected a class of 0 to 1, got 7'),
        (4, 'got 3 words'),
        (5, 'expected shares of the image, 0 to 1, got 14 12 20 12'),
        (6, "expected a class number, got '1.5'"),
        (7, 'could not convert'),
    ):
        assert f'a.txt, line {line}: ' in text, line
        assert message in text


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
        ('pictures', 'labels', 'classes.txt'),
        ('.', '.', 'classes.txt'),
    ],
    ids=['label studio', 'cvat', 'beside', 'makesense'],
)
def test_yolo_without_a_yaml_file_is_read(
    tmp_path, images, labels, names_file
):
    write_yolo(tmp_path, [f'{c}.jpg' for c in 'abcdef'], labels, images)
    (tmp_path / names_file).write_text('cat\ndog\n')
    splits = find_data(tmp_path)
    assert splits.val.format == 'YOLO'
    assert len(check_two_classes(splits)) == 4
    assert len(read_boxes(splits.val)) == 2  # One of each class.


def test_yolo_without_names_counts_its_classes(tmp_path):
    write_yolo(tmp_path, ('a.jpg', 'b.jpg'))
    splits = find_data(tmp_path)
    assert splits.classes == ('class_0', 'class_1')
    assert 'without names' in '\n'.join(report(read_boxes(splits.train)))


def test_yaml_file_cannot_lead_out_of_the_folder(tmp_path):
    write_yolo(tmp_path / 'other', ('a.jpg',))
    root = tmp_path / 'root'
    write_yolo(root, ('a.jpg',))
    (root / 'data.yaml').write_text(
        f'path: {tmp_path}/other\ntrain: {tmp_path}/other/images\n'
        'names: [cat]\n'
    )
    with pytest.raises(DatasetError, match='is not below'):
        find_data(root)


VOC = """<annotation><folder>x</folder><filename>{name}</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>{label}</name><difficult>0</difficult><bndbox>
<xmin>4</xmin><ymin>6</ymin><xmax>24</xmax><ymax>18</ymax></bndbox></object>
</annotation>"""


def write_voc(root, names, xml='Annotations', images='JPEGImages'):
    for index, name in enumerate(names):
        picture(root / images / name)
        path = root / xml / (os.path.splitext(name)[0] + '.xml')
        path.parent.mkdir(parents=True, exist_ok=True)
        label = ('cat', 'dog')[index % 2]
        path.write_text(VOC.format(name='renamed.jpg', label=label))


def test_voc_with_its_lists_is_read(tmp_path):
    write_voc(tmp_path, ('a.jpg', 'b.jpg', 'c.jpg'))
    lists = tmp_path / 'ImageSets' / 'Main'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nb  1\n')
    (lists / 'test.txt').write_text('c\n')
    splits = find_data(tmp_path)
    assert splits.val.format == 'VOC'
    assert len(check_two_classes(splits)) == 2
    assert read_boxes(splits.val).names == ['c.jpg']
    # A test measured on the images of training, too.
    assert read_boxes(find_data(tmp_path, ('test',)).val).names == ['c.jpg']


@pytest.mark.parametrize(
    'xml, images',
    [
        ('annotations', 'images'),
        ('all', 'all'),
        ('Annotations', 'JPEGImages'),
    ],
)
def test_voc_without_a_split_is_read(tmp_path, xml, images):
    write_voc(tmp_path, [f'{c}.jpg' for c in 'abcdef'], xml, images)
    splits = find_data(tmp_path)
    assert splits.val.format == 'VOC'
    assert len(check_two_classes(splits)) == 4
    assert len(read_boxes(splits.val)) == 2  # One of each class.


def test_voc_of_roboflow_is_read(tmp_path):
    for split in 'train', 'valid':
        write_voc(tmp_path, ('a.jpg', 'b.jpg'), split, split)
    splits = find_data(tmp_path)
    check_two_classes(splits)
    assert splits.val.images == (str(tmp_path / 'valid'),)


CSV = {
    'roboflow': (
        'filename,width,height,class,xmin,ymin,xmax,ymax',
        '{},40,30,{},4,6,24,18',
    ),
    'makesense': (
        'label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,'
        'image_width,image_height',
        '{1},4,6,20,12,{0},40,30',
    ),
    'retinanet': (None, 'somewhere/{},4,6,24,18,{}'),
    'kaggle': (
        'image_id,width,height,bbox,source,label',
        '{},40,30,"[4, 6, 20, 12]",x,{}',
    ),
    'corner and size': ('image,x,y,width,height,label', '{},4,6,20,12,{}'),
    'open images': ('ImageID,LabelName,XMin,XMax,YMin,YMax', None),
}


@pytest.mark.parametrize('name', CSV)
def test_csv_exports_are_read(tmp_path, name):
    header, line = CSV[name]
    line = line or '{},{},0.1,0.6,0.2,0.6'
    names = [f'{c}.jpg' for c in 'abcdef']
    rows = [] if header is None else [header]
    for index, image in enumerate(names):
        picture(tmp_path / 'images' / image)
        image = image[:1] if 'ID' in str(header) else image
        rows.append(line.format(image, ('cat', 'dog')[index % 2]))
    (tmp_path / 'boxes.csv').write_text('\n'.join(rows) + '\n')
    (tmp_path / 'prices.csv').write_text('a,b\n1,2\n')
    splits = find_data(tmp_path)
    assert splits.val.format == 'CSV'
    table = read_boxes(splits.train._replace(part=None))
    assert np.allclose(table.boxes, [4, 6, 20, 12])
    assert table.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert len(read_boxes(splits.val)) == 2  # One of each class.


# A part set apart for validation ----------------------------------------


def test_each_class_is_on_both_sides_and_seeds_differ(coco):
    one = coco.data['annotations'][0]
    coco.data['images'] = [
        dict(id=i, file_name=f'{i}.png', width=40, height=30)
        for i in range(100)
    ]
    coco.data['categories'] = [dict(id=i, name=f'class {i}') for i in range(3)]
    # 100 images of a common class, 10 and 2 of rarer ones.
    coco.data['annotations'] = [
        dict(one, id=k, image_id=i, category_id=label)
        for k, (i, label) in enumerate(
            (i, label)
            for label, step in enumerate((1, 10, 50))
            for i in range(0, 100, step)
        )
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


def test_what_is_wrong_with_a_divided_source_is_told_once(tmp_path):
    put(tmp_path, 'labels.json', 'data', [f'{c}.jpg' for c in 'abcdefghij'])
    (tmp_path / 'data' / 'a.jpg').unlink()
    splits, said = find_data(tmp_path), set()
    texts = [
        '\n'.join(report(read_boxes(source), False, said))
        for source in (splits.train, splits.val)
    ]
    assert "'a.jpg'" in texts[0]
    assert texts[1] == ''


def test_one_annotation_file_is_split_and_says_so(tmp_path):
    put(tmp_path, 'labels.json', 'data', [f'{c}.jpg' for c in 'abcdefghij'])
    splits = find_data(tmp_path)
    assert len(read_boxes(splits.val)) == 2
    assert not set(read_boxes(splits.train).names) & set(
        read_boxes(splits.val).names
    )
    assert '2 of the 10 images are set apart' in splits.notes[-1]
    asked = find_data(tmp_path, val_fraction=0.4, seed=3)
    assert len(read_boxes(asked.val)) == 4


# The same boxes whatever the format -------------------------------------


def as_yolo(data, images, root):
    for image in data['images']:
        path = root / 'images' / image['file_name']
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(images / image['file_name'])
        lines = []
        for ann in data['annotations']:
            if ann['image_id'] == image['id']:
                x, y, w, h = ann['bbox']
                width, height = image['width'], image['height']
                shares = (
                    (x + w / 2) / width,
                    (y + h / 2) / height,
                    w / width,
                    h / height,
                )
                words = ' '.join(f'{share:.6f}' for share in shares)
                lines.append(f'{ann["category_id"] - 1} {words}')
        label = root / 'labels' / (path.stem + '.txt')
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text('\n'.join(lines))
    names = ', '.join(each['name'] for each in data['categories'])
    (root / 'data.yaml').write_text(f'train: images\nnames: [{names}]\n')


def as_voc(data, images, root):
    names = {each['id']: each['name'] for each in data['categories']}
    (root / 'JPEGImages').symlink_to(images)
    (root / 'Annotations').mkdir()
    for image in data['images']:
        objects = ''
        for ann in data['annotations']:
            if ann['image_id'] == image['id']:
                x, y, w, h = ann['bbox']
                objects += (
                    f'<object><name>{names[ann["category_id"]]}</name>'
                    f'<bndbox><xmin>{x}</xmin><ymin>{y}</ymin>'
                    f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>'
                    '</object>'
                )
        name = image['file_name']
        (root / 'Annotations' / f'{name[:-4]}.xml').write_text(
            f'<annotation><filename>{name}</filename><size><width>'
            f'{image["width"]}</width><height>{image["height"]}</height>'
            f'</size>{objects}</annotation>'
        )


@pytest.mark.real_data
@pytest.mark.parametrize('convert', [as_yolo, as_voc])
def test_bccd_is_the_same_table_in_every_format(real_data, tmp_path, convert):
    bccd = real_data / 'bccd'
    expected = read_boxes(find_data(bccd).train)
    data = json.loads((bccd / 'annotations' / 'train.json').read_text())
    convert(data, bccd / 'images', tmp_path)
    train = find_data(tmp_path).train
    table = read_boxes(train._replace(part=None))
    assert table.classes == expected.classes
    assert [os.path.basename(name) for name in table.names] == expected.names
    for column in 'boxes', 'labels', 'image', 'sizes', 'crowd', 'area':
        assert np.array_equal(
            getattr(table, column), getattr(expected, column)
        ), column


def test_exif_is_applied_to_shares_of_the_shown_picture(tmp_path):
    write_yolo(tmp_path, ('a.jpg',))
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', SIZE).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    turned = read_boxes(find_data(tmp_path, ('test',)).val)
    assert turned.sizes.tolist() == [[30, 40]]
    stored = read_boxes(find_data(tmp_path, ('test',), exif='ignore').val)
    assert stored.sizes.tolist() == [[40, 30]]
    assert stored.boxes.tolist() == [[4, 6, 20, 12]]
