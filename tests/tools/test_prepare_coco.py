import json
import shlex

import pytest
from mmengine.config import Config, DictAction

FOLDERS = {'train2014': [1, 2], 'val2014': [3]}
FOLDERS |= {'train2017': [1, 2], 'val2017': [3]}


@pytest.fixture
def data_root(tmp_path):
    (tmp_path / 'annotations').mkdir()
    for folder, ids in FOLDERS.items():
        (tmp_path / folder).mkdir()
        names = {number: f'{folder}_{number}.jpg' for number in ids}
        for name in names.values():
            (tmp_path / folder / name).touch()
        data = dict(
            images=[
                dict(id=k, file_name=name, width=9, height=9)
                for k, name in names.items()
            ],
            annotations=[
                dict(id=k, image_id=k, category_id=1, bbox=[1, 2, 3, 4])
                for k in ids
            ],
            categories=[dict(id=1, name='person')],
        )
        path = tmp_path / 'annotations' / f'instances_{folder}.json'
        path.write_text(json.dumps(data))
    return tmp_path


@pytest.mark.parametrize('layout', ['2014', '2017'])
def test_command_it_names_finds_files_and_images(
    data_root, here, layout, root
):
    printed = here(
        *('prepare_coco', '--data-root', data_root, '--layout', layout),
        *('--num-train', 2, '--num-val', 1),
    )
    command = printed.partition('Train with\n')[2].replace('\\\n', ' ')
    words = shlex.split(command)
    assert words[:2] == ['python', 'tools/train.py']
    cfg = Config.fromfile(root / words[2])
    pairs = (word.split('=', 1) for word in words[4:])
    cfg.merge_from_dict({k: DictAction._parse_iterable(v) for k, v in pairs})
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        path = data_root / dataset.ann_file
        assert dataset.data_root == f'{data_root}/'
        images = json.loads(path.read_text())['images']
        assert len(images) == (2 if split == 'train' else 1)
        for image in images:
            folder = data_root / dataset.data_prefix.img
            assert (folder / image['file_name']).is_file()
        if split != 'train':
            assert cfg[f'{split}_evaluator'].ann_file == str(path)


def test_what_is_missing_or_wrong_is_one_message(data_root, here):
    absent = data_root / 'coco'
    said = here('prepare_coco', '--data-root', absent, code=2)
    assert f'error: --data-root {absent} is not a folder' in said
    said = here('prepare_coco', '--data-root', data_root, code=2)
    assert 'must have 118287 images, but has 2' in said
