import json
import shlex

import pytest
from coco_files import SIZE, picture

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data import find_data, read_boxes

YEARS = {'2014': ('train2014', 'val2014'), '2017': ('train2017', 'val2017')}


def run(*arguments):
    cli.main('prepare_coco', list(map(str, arguments)))


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
def test_command_it_names_finds_files_and_images(data_root, capsys, layout):
    counts = '--num-train', 2, '--num-val', 1
    run('--data-root', data_root, '--layout', layout, *counts)
    output = capsys.readouterr().out
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


def test_missing_data_set_is_one_message_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run('--data-root', tmp_path / 'coco')
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith('error: ')
    assert 'holds no complete COCO data set' in message
    assert 'Traceback' not in message


def test_wrong_number_of_images_is_an_error(data_root, capsys):
    with pytest.raises(SystemExit) as stop:
        run('--data-root', data_root, '--layout', '2017')
    assert stop.value.code == 2
    assert 'expected 118287 images, got 2' in capsys.readouterr().err


def test_ids_that_a_layout_has_no_use_for_are_refused(
    data_root, capsys, tmp_path
):
    ids = tmp_path / 'ids.txt'
    ids.write_text('1\n')
    with pytest.raises(SystemExit) as stop:
        run('--data-root', data_root, '--minival-ids', ids)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert '--minival-ids is for the 2014 layout' in message


def test_folder_that_cannot_be_written_is_one_message(
    data_root, capsys, monkeypatch
):
    def refuse(*args, **kwargs):
        raise PermissionError(1, 'Operation not permitted', 'annotations')

    monkeypatch.setattr('tempfile.mkdtemp', refuse)
    counts = '--num-train', 2, '--num-val', 1
    with pytest.raises(SystemExit) as stop:
        run('--data-root', data_root, '--layout', '2014', *counts)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert 'Operation not permitted' in message
    assert 'Traceback' not in message
