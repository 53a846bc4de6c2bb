"""``tools/prepare_coco.py`` as its users call it."""

import shlex

import pytest
from coco_files import content, put

from mmdet_shufflenetv2.data import find_data, read_boxes

IDS = {'train': [1, 2], 'val': [3]}


@pytest.fixture
def data_root(tmp_path):
    for split, ids in IDS.items():
        folder = f'{split}2017'
        ann = f'annotations/instances_{folder}.json'
        images = {i: f'{i}.jpg' for i in ids}
        boxes = {i: (i, 9, [1, 2, 3, 4]) for i in ids}
        lists = content(images, boxes, {9: 'person'})
        put(tmp_path, ann, folder, images.values(), **lists)
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


def test_other_counts_than_cocos_are_an_error(data_root, here):
    said = here('prepare_coco', '--data-root', data_root, code=2)
    assert 'expected 118287 images with boxes, got 2 images' in said
