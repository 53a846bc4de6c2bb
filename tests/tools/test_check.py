"""``python -m mmdet_shufflenetv2 check``."""

import json

import pytest

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data.synthetic import CLASSES, DetectionSet, write_set


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / 'data', DetectionSet(4, 2, (96, 96), 0, 0.0))
    return tmp_path / 'data'


def test_good_data_are_counted_and_drawn(data, tmp_path, capsys):
    cli.main('check', [str(data), '--out-dir', str(tmp_path / 'out')])
    text = capsys.readouterr().out
    assert 'train: 4 images' in text
    assert 'val: 2 images' in text
    assert all(f'  {name}: ' in text for name in CLASSES)
    assert len(list(tmp_path.glob('out/train/*.jpg'))) == 4


def test_wrong_records_are_named_and_drawn(data, tmp_path, capsys):
    path = data / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [90, 90, 40, 40]
    content['annotations'][1]['bbox'] = [5, float('nan'), 40, 40]
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stopped:
        cli.main('check', [str(data), '--out-dir', str(tmp_path / 'out')])
    assert stopped.value.code == 1
    text = capsys.readouterr().out
    assert '2 records are wrong' in text
    assert 'annotations[0]' in text
    assert 'annotations[1]' in text
    drawn = {path.name[:7] for path in tmp_path.glob('out/train/*.jpg')}
    assert {'000_box', '001_box'} <= drawn


def test_folder_without_data_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main('check', [str(tmp_path)])
    assert stopped.value.code == 2
    assert 'no annotations for train' in capsys.readouterr().err


@pytest.mark.parametrize('share', ['0', '1', '20'])
def test_share_of_validation_lies_between_0_and_1(data, capsys, share):
    with pytest.raises(SystemExit):
        cli.main('check', [str(data), '--val-fraction', share])
    assert '--val-fraction' in capsys.readouterr().err
