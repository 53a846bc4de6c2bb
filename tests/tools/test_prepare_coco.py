"""``tools/prepare_coco.py`` as its users call it."""

import shlex

import pytest
from coco_files import put

from mmdet_shufflenetv2.data import find_data, read_boxes

IDS = {'train': [1, 2], 'val': [3]}


@pytest.fixture
def data_root(tmp_path):
    for split, ids in IDS.items():
        folder = f'{split}2017'
        ann = f'annotations/instances_{folder}.json'
        names = [f'{number}.jpg' for number in ids]
        images = [
            dict(id=number, file_name=name, width=40, height=30)
            for number, name in zip(ids, names, strict=True)
        ]
        boxes = [
            dict(id=n, image_id=n, category_id=9, bbox=[1, 2, 3, 4])
            for n in ids
        ]
        content = dict(images=images, annotations=boxes)
        put(tmp_path, ann, folder, names, classes=('person',), **content)
    return tmp_path


def test_command_it_names_finds_files_and_images(data_root, here):
    counts = '--num-train', 2, '--num-val', 1
    output = here('prepare_coco', '--data-root', data_root, *counts)
    command = output.partition('Train with\n')[2].replace('\\\n', ' ')
    words = shlex.split(command)
    assert words[:2] == ['python', 'tools/train.py']
    options = dict(zip(words[3::2], words[4::2], strict=True))
    splits = find_data(
        options['--data-root'],
        train_ann=options['--train-ann'],
        val_ann=options['--val-ann'],
    )
    for source, ids in zip(splits, IDS.values(), strict=False):
        assert read_boxes(source).image_ids.tolist() == ids


def test_what_is_missing_or_wrong_is_one_message(data_root, here):
    absent = data_root / 'coco'
    said = here('prepare_coco', '--data-root', absent, code=2)
    assert f'error: {absent} holds no complete COCO data set' in said
    said = here('prepare_coco', '--data-root', data_root, code=2)
    assert 'expected 118287 images with boxes, got 2 images' in said
