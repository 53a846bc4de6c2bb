"""Every run has a folder of its own, and goes on with its own data."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from mmengine.config import Config

from mmdet_shufflenetv2.engine import run_dir
from mmdet_shufflenetv2.errors import UserError


def test_runs_are_numbered_and_never_share_a_folder(tmp_path):
    base = str(tmp_path / 'runs' / 'mine')
    begin_one = partial(run_dir.new_folder, claim=run_dir.NOTE)
    with ThreadPoolExecutor() as pool:
        made = map(str, pool.map(begin_one, [base] * 11))
    names = [base, *(f'{base}-{number}' for number in range(2, 12))]
    assert sorted(made) == sorted(names)
    # 11 comes after 9, and other names are not of this one.
    (tmp_path / 'runs' / 'mine-tall').mkdir()
    assert list(map(str, run_dir.find_runs(base))) == names[::-1]


def test_an_empty_folder_is_taken_and_given_back(tmp_path):
    base = tmp_path / 'mine'
    base.mkdir()
    assert run_dir.new_folder(str(base), run_dir.NOTE) == base
    assert run_dir.new_folder(str(base)) == tmp_path / 'mine-2'
    run_dir.give_back(str(base))
    (base / run_dir.TESTS).mkdir(parents=True)
    assert run_dir.new_folder(str(base)) == base
    with pytest.raises(UserError, match='cannot write to the folder /proc'):
        run_dir.new_folder('/proc/nothing/mine')


def test_the_newest_run_on_the_same_data_goes_on(tmp_path):
    def data(name: str, boxes: int) -> Config:
        path = tmp_path / 'data' / name / 'train.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(annotations=list(range(boxes)))))
        dataset = dict(type='BoxDataset', data_root='', ann_file=str(path))
        loader, work_dir = dict(dataset=dataset), str(tmp_path / 'mine')
        return Config(dict(train_dataloader=loader, work_dir=work_dir))

    runs = []
    for cfg in data('a', 1), data('a', 1), data('b', 2):
        cfg.work_dir = run_dir.choose_run_dir(cfg, None, None, None)
        run_dir.note_data(cfg)
        Path(cfg.work_dir, 'last_checkpoint').write_text('epoch_1.pth')
        runs.append(cfg.work_dir)
    for name in 'a', 'moved':
        found = run_dir.choose_run_dir(data(name, 1), None, None, 'auto')
        assert found == runs[1]
    for work_dir in None, runs[2]:
        with pytest.raises(UserError) as error:
            run_dir.choose_run_dir(data('c', 3), work_dir, None, 'auto')
        for name in 'data/b/train.json', 'data/c/train.json':
            assert name in str(error.value)
    with pytest.raises(UserError, match='has left a checkpoint in'):
        run_dir.choose_run_dir(data('a', 1), None, str(tmp_path / 'x'), 'auto')


def test_files_of_labels_count_and_pictures_do_by_name(tmp_path):
    label, picture = tmp_path / '1.txt', tmp_path / '1.jpg'
    label.write_text('0 0.5 0.5 1 1')
    picture.write_text('a picture')
    dataset = dict(type='BoxDataset', ann_file=str(tmp_path))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    before = run_dir.data_of(cfg)
    picture.write_text('the same, compressed')
    assert run_dir.data_of(cfg) == before
    label.write_text('1 0.5 0.5 1 1')
    assert run_dir.data_of(cfg) != before
