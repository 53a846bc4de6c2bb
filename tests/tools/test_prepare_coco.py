import json
import shlex

import pytest
from coco_files import SIZE, picture

from mmdet_shufflenetv2.data import find_data, read_boxes

YEARS = {'2014': ('train2014', 'val2014'), '2017': ('train2017', 'val2017')}


@pytest.fixture
def data_root(tmp_path):
    (tmp_path / 'annotations').mkdir()
    for train, val in YEARS.values():
        for folder, ids in ((train, (1, 2)), (val, (3,))):
            (tmp_path / folder).mkdir()
            data = {
                'images': [],
                'annotations': [],
                'categories': [dict(id=1, name='person')],
            }
            for number in ids:
                name = f'{folder}_{number}.jpg'
                picture(tmp_path / folder / name)
                size = dict(width=SIZE[0], height=SIZE[1])
                data['images'].append(dict(id=number, file_name=name, **size))
                data['annotations'].append(
                    dict(
                        id=number,
                        image_id=number,
                        category_id=1,
                        bbox=[1, 2, 3, 4],
                    )
                )
            path = tmp_path / 'annotations' / f'instances_{folder}.json'
            path.write_text(json.dumps(data))
    return tmp_path


@pytest.mark.parametrize('layout', YEARS)
def test_command_it_names_finds_files_and_images(data_root, here, layout):
    where = '--data-root', data_root, '--layout', layout
    counts = '--num-train', 2, '--num-val', 1
    output = here('prepare_coco', *where, *counts)
    command = output.partition('Train with\n')[2].replace('\\\n', ' ')
    words = shlex.split(command)
    assert words[:2] == ['python', 'tools/train.py']
    options = dict(zip(words[3::2], words[4::2], strict=True))
    splits = find_data(
        options['--data-root'],
        train_ann=options['--train-ann'],
        val_ann=options['--val-ann'],
    )
    for source, ids in zip(splits, ([1, 2], [3]), strict=False):
        assert layout in source.ann
        assert read_boxes(source).image_ids.tolist() == ids


def test_what_is_missing_or_wrong_is_one_message(data_root, here):
    absent = data_root / 'coco'
    said = here('prepare_coco', '--data-root', absent, code=2)
    assert f'error: {absent} holds no complete COCO data set' in said
    said = here('prepare_coco', '--data-root', data_root, code=2)
    assert 'expected 118287 images, got 2' in said
