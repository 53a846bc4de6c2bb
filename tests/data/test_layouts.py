"""The splits that are found in a folder, in the layouts of common tools."""

import os
import re

import numpy as np
import pytest
from coco_files import BOX, read_test
from trees import (
    CLASSES,
    XML,
    coco,
    label_of,
    pictures,
    spelled,
    tree,
    voc,
    yolo,
)

from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.reading import read_boxes, report
from mmdet_shufflenetv2.data.table import DatasetError

NAMES = 'cat\ndog\n'
LISTS = 'ImageSets/Main/'
BOTH = 'images are in both training and validation'


def yaml(*entries):
    """What YOLO's data.yaml says beside the names."""
    return {'data.yaml': '\n'.join([*entries, 'names: {0: cat, 1: dog}'])}


def named(short, labels=None):
    """YOLO's files, with a list of class names."""
    return yolo(short, labels) | {'classes.txt': NAMES}


# By name, which begins with the format: the files; the images to train on |
# and to validate on, held out if there is no |; how notes begin, if any.
FOUND = {
    'COCO': (
        coco('train2017/ab', 'annotations/instances_train2017.json')
        | coco('val2017/ab', 'annotations/instances_val2017.json'),
        'train2017/ab | val2017/ab',
    ),
    'COCO of Roboflow': (
        coco('train/ab', 'train/_annotations.coco.json')
        | coco('valid/ab', 'valid/_annotations.coco.json'),
        'train/ab | valid/ab',
    ),
    'COCO as two CVAT tasks': (
        coco('train/images/ab', 'train/annotations/instances_default.json')
        | coco('val/images/ab', 'val/annotations/instances_default.json'),
        'train/images/ab | val/images/ab',
    ),
    'COCO without folders': (
        coco('ab', 'train.json') | coco('bc', 'val.json'),
        'ab | bc',
        f'1 {BOTH}',
    ),
    'COCO in UTF-16': (coco('ab', 'a.json', 'utf-16'), 'ab'),
    'COCO beside CSV': (
        coco('ab', 'train.json')
        | {'a.csv': 'filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,4,6,24,18'},
        'ab',
        'CSV annotations were found too and are not used',
    ),
    'COCO beside other files': (
        coco('train/ab', 'annotations/instances_train.json')
        | coco('train/ab', 'annotations/captions_train.json')
        | coco('val/ab', 'annotations/instances_val.json')
        | coco('val/ab', 'annotations/person_keypoints_val.json')
        # Label Studio's classes, and counts of some data set.
        | {'notes_train.json': '{"categories": []}'}
        | {'info_train.json': '{"images": 4}', 'train_lr.json': '{"lr": 1}'}
        | {'compose.yml': '- a', 'settings.yml': '- usernames'}
        | {'__MACOSX/._train.json': '\0\1{"images"'},
        'train/ab | val/ab',
    ),
    'COCO and images of no split': (
        coco('train/ab', 'train.json')
        | coco('val/ab', 'val.json')
        | pictures('a more/ab train/c test/a'),
        'train/ab | val/ab',
        '4 images in ., more, train are not used',
    ),
    'YOLO of Ultralytics': (
        yolo('images/train/ab images/val/ab')
        | yaml('path: .', 'train: images/train', 'val: images/val'),
        'images/train/ab | images/val/ab',
    ),
    'YOLO of Roboflow': (
        yolo('train/images/ab valid/images/ab')
        | yaml('train: ../train/images', 'val: ../valid/images', 'nc: 2'),
        'train/images/ab | valid/images/ab',
    ),
    # The file always lists three splits, exported or not.
    'YOLO of Roboflow, training alone': (
        yolo('train/images/abcdef')
        | yaml(
            'train: ../train/images',
            'val: ../valid/images',
            'test: ../test/images',
        ),
        'train/images/abcdef',
    ),
    'YOLO of FiftyOne': (
        yolo('images/train/ab images/val/ab')
        | yaml('train: [./images/train/]', 'val: [images/val]'),
        'images/train/ab | images/val/ab',
    ),
    'YOLO of Supervisely': (
        yolo('images/train/ab images/val/ab')
        | yaml('train: ../set/images/train', 'val: ../set/images/val'),
        'images/train/ab | images/val/ab',
    ),
    'YOLO of another machine': (
        yolo('train/images/ab val/images/ab')
        | yaml('train: /no/set/train/images', 'val: /no/set/val/images'),
        'train/images/ab | val/images/ab',
    ),
    'YOLO of Windows': (
        yolo('train/images/ab val/images/ab')
        | yaml(r'train: C:\set\train\images', r'val: C:\set\val\images'),
        'train/images/ab | val/images/ab',
    ),
    'YOLO by lists of images': (
        yolo('images/abc')
        | {'train.txt': './images/a.jpg\n./images/b.jpg'}
        | {'val.txt': './images/c.jpg'}
        | yaml('train: train.txt', 'val: val.txt'),
        'images/ab | images/c',
    ),
    'YOLO beside the file of another set': (
        yolo('images/train/abcdef')
        | {'coco.yaml': 'train: train2017.txt\nnames: [car]'}
        | yaml('train: images/train'),
        'images/train/abcdef',
    ),
    'YOLO of Label Studio': (named('images/abcdef'), 'images/abcdef'),
    'YOLO of makesense': (named('abcdef', 'labels_task_2024'), 'abcdef'),
    'YOLO of CVAT': (
        yolo('obj_train_data/abcdef') | {'obj.names': NAMES},
        'obj_train_data/abcdef',
    ),
    # The label 0.35 is not the image 0.jpg.
    'YOLO of Darknet': (
        yolo('obj/0.jpg obj/a.jpg obj/train_c.jpg') | {'obj.names': NAMES},
        'obj/0.jpg obj/a.jpg obj/train_c.jpg',
    ),
    # Test images were once trained on.
    'YOLO of Darknet, with lists': (
        yolo('obj/0.jpg obj/a.jpg obj/train_c.jpg')
        | {'obj.names': NAMES}
        | {'train.txt': 'obj/train_c.jpg\nobj/0.jpg'}
        | {'test.txt': r'C:\obj\a.jpg'},
        'obj/0.jpg obj/train_c.jpg | obj/a.jpg',
    ),
    'YOLO in one folder': (named('abcdef'), 'abcdef'),
    'YOLO with capitals': (named('Images/abcdef', 'Labels'), 'Images/abcdef'),
    'YOLO in annotations': (
        named('images/abcdef', 'annotations'),
        'images/abcdef',
    ),
    'YOLO in one folder of labels': (
        named('images/train/abcd images/val/ef', 'labels'),
        'images/train/abcd | images/val/ef',
    ),
    # They were once trained on twice, and held out as well.
    'YOLO in nested folders': (
        named('images/abc images/more/abcdef'),
        'images/abc images/more/abcdef',
    ),
    # Decomposed by macOS, composed by the annotation tool.
    'YOLO, names in another Unicode form or case': (
        pictures('images/cafe\u0301.jpg images/D_1.JPG')
        | {'labels/caf\u00e9.txt': '0 0.35 0.4 0.5 0.4'}
        | {'labels/d_1.txt': '1 0.35 0.4 0.5 0.4', 'classes.txt': NAMES},
        'images/D_1.JPG images/cafe\u0301.jpg',
    ),
    'YOLO, labels without an image': (
        yolo('images/abcdef')
        | {'labels/classes.txt': NAMES}
        | {'images/g.gif': 'no image', 'labels/g.txt': '0 0.3 0.4 0.5 0.4'},
        'images/abcdef',
        '1 label files have no image: labels/g.txt',
    ),
    'YOLO, images of something else': (
        yolo('train/abcdef', 'labels/train')
        | yolo('val/abcdef', 'labels/val')
        | {'images/logo.png': None, 'classes.txt': NAMES},
        'train/abcdef | val/abcdef',
        '1 images in images are not used',
    ),
    # Masks with the names of the photographs were once trained on.
    'YOLO beside masks': (
        named('images/abcdef') | pictures('masks/abcdef'),
        'images/abcdef',
        '6 images in masks are not used',
    ),
    'VOC': (
        voc('JPEGImages/abc', 'Annotations')
        | {f'{LISTS}train.txt': 'a\nb  1', f'{LISTS}val.txt': 'c'},
        'JPEGImages/ab | JPEGImages/c',
    ),
    'VOC, lists in ImageSets': (
        voc('JPEGImages/abc', 'Annotations')
        | {'ImageSets/train.txt': 'a\nb', 'ImageSets/valid.txt': 'c'}
        # Lists of another task, and unrelated files.
        | {'ImageSets/Segmentation/train.txt': 'c', 'notes.txt': 'a'}
        | {'ImageSets/Segmentation/val.txt': 'a', 'train_log.txt': 'loss 3'},
        'JPEGImages/ab | JPEGImages/c',
    ),
    'VOC, lists of paths': (
        voc('images/abc', 'xml')
        | {'train.txt': 'images/a.jpg xml/a.xml\nimages/b.jpg xml/b.xml'}
        | {'test.txt': 'c'},
        'images/ab | images/c',
    ),
    # Test images once were trained on.
    'VOC, trainval and test': (
        voc('JPEGImages/abc', 'Annotations')
        | {f'{LISTS}trainval.txt': 'a\nb', f'{LISTS}test.txt': 'c'},
        'JPEGImages/ab | JPEGImages/c',
    ),
    'VOC, all lists': (
        voc('JPEGImages/abc', 'Annotations')
        | {f'{LISTS}train.txt': 'a', f'{LISTS}val.txt': 'b'}
        | {f'{LISTS}trainval.txt': 'a\nb', f'{LISTS}test.txt': 'c'}
        | {f'{LISTS}cat_train.txt': 'b'},
        'JPEGImages/a | JPEGImages/b',
        '1 images in JPEGImages are not used',
    ),
    'VOC, lists of classes alone': (
        voc('JPEGImages/abc', 'Annotations')
        | {f'{LISTS}cat_train.txt': 'a  1', f'{LISTS}dog_train.txt': 'b -1'}
        | {f'{LISTS}cat_val.txt': 'c  1'},
        'JPEGImages/ab | JPEGImages/c',
    ),
    'VOC, images in both lists': (
        voc('JPEGImages/abc', 'Annotations')
        | {f'{LISTS}trainval.txt': 'a\nb\nc', f'{LISTS}val.txt': 'c'},
        'JPEGImages/abc | JPEGImages/c',
        f'1 {BOTH}',
    ),
    'VOC in two years': (
        voc('VOC2007/JPEGImages/ab', 'VOC2007/Annotations')
        | {f'VOC2007/{LISTS}train.txt': 'a', f'VOC2007/{LISTS}val.txt': 'b'}
        | voc('VOC2012/JPEGImages/cd', 'VOC2012/Annotations')
        | {f'VOC2012/{LISTS}train.txt': 'c', f'VOC2012/{LISTS}val.txt': 'd'},
        'VOC2007/JPEGImages/a VOC2012/JPEGImages/c'
        ' | VOC2007/JPEGImages/b VOC2012/JPEGImages/d',
    ),
    # Images that have masks once were not found.
    'VOC with masks': (
        voc('JPEGImages/ab', 'Annotations', is_named=True)
        | {f'{LISTS}train.txt': 'a', f'{LISTS}val.txt': 'b'}
        | {'SegmentationClass/a.png': None},
        'JPEGImages/a | JPEGImages/b',
        '1 images in SegmentationClass are not used',
    ),
    # The masks of Oxford-IIIT Pet once were trained on.
    'VOC with masks beside the XML files': (
        voc('images/abcdef', 'annotations/xmls', is_named=True)
        | pictures('annotations/trimaps/a.png annotations/trimaps/b.png'),
        'images/abcdef',
        '2 images in annotations/trimaps are not used',
    ),
    'VOC without a split': (
        voc('images/abcdef', 'annotations') | {'data.yaml': 'names: [x]\n'},
        'images/abcdef',
    ),
    'VOC in one folder': (voc('all/abcdef', 'all'), 'all/abcdef'),
    'VOC of Roboflow': (
        voc('train/ab', 'train') | voc('valid/ab', 'valid'),
        'train/ab | valid/ab',
    ),
    'VOC by folders of images': (
        voc('images/train/abc images/val/de', 'xml'),
        'images/train/abc | images/val/de',
    ),
}


@pytest.mark.parametrize('name', FOUND)
def test_splits_are_found_with_all_their_boxes(tmp_path, name):
    files, expected, *notes = FOUND[name]
    tree(tmp_path, files)
    splits = find_data(tmp_path)
    assert splits.classes == CLASSES
    found = []
    for source in splits.train, splits.val:
        assert source.format == re.match('[A-Z]+', name)[0]
        table = read_boxes(source)
        assert report(table, strict=True) == []
        assert np.allclose(table.boxes, [BOX] * len(table))
        assert table.labels.tolist() == list(map(label_of, table.names))
        found.append([os.path.relpath(f, tmp_path) for f in table.files])
    wanted = [spelled(part) for part in expected.split(' | ')]
    if len(wanted) == 2:
        assert read_test(tmp_path).files == table.files
    else:
        assert all(found)
        found = [sorted(found[0] + found[1])]
    assert found == wanted
    said = [note for note in splits.notes[1:] if 'held out' not in note]
    for note, start in zip(said, notes, strict=True):
        assert note.startswith(start)


WRONG = {
    'no data': ({}, 'found 0 images'),
    'no images': (
        {k: v for k, v in coco('images/ab', 'train.json').items() if v},
        r'no usable image\n.*--train-img (.|\n)*a\.jpg',
    ),
    'images of other sizes': (
        voc(text=XML.replace('40', '400')),
        r'no usable image\n.*broken image; left out(.|\n)*says 400 x 30',
    ),
    'two files': (
        coco('images/ab', 'train2014.json')
        | coco('images/ab', 'train2017.json'),
        r'several .* --train-ann FILE',
    ),
    'two folders of images': (
        coco('small/ab', 'train.json') | coco('big/ab', 'train.json'),
        r'ambiguous; .* --train-img',
    ),
    'a part of a split': (
        yolo('images/a/ab') | yaml('train: [images/a, images/b]'),
        'got images/b$',
    ),
    'a folder and a list': (
        yolo('images/a/ab')
        | {'a.txt': 'images/a/a.jpg'}
        | yaml('train: [a.txt, images/a]'),
        r'got a\.txt$',
    ),
    # The end of its path is there, but says nothing of training.
    'a folder of another machine': (
        yolo('images/ab val/images/ab') | yaml('train: /no/train/images'),
        'got /no/train/images$',
    ),
}


@pytest.mark.parametrize('name', WRONG)
def test_what_is_missing_or_ambiguous_is_named(tmp_path, name):
    files, message = WRONG[name]
    tree(tmp_path, files)
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)
