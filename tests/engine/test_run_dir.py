"""Every run has a folder of its own, and goes on with its own data."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

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


def test_files_of_labels_count_and_pictures_do_by_name(tmp_path):
    """Which run `--resume` goes on with is told by its data."""
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
