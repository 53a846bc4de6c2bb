"""A tiny synthetic data set and a run of the real commands on it."""

from pathlib import Path

import pytest
from commands import CONFIG, TINY, run

from mmdet_shufflenetv2.data.synthetic import DetectionSet, write_set


@pytest.fixture
def here(root, monkeypatch):
    """Run a command in this process, which saves seconds of imports."""

    def start(name, *arguments, code=0, cwd=root):
        monkeypatch.chdir(cwd)
        return run(name, *arguments, code=code)

    return start


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    write_set(folder, DetectionSet(6, 4, (96, 96), 1, 0.0))
    return folder


@pytest.fixture(scope='session')
def trained(shapes, tmp_path_factory):
    """The work dir of two finished epochs, and what was printed."""
    work_dir = tmp_path_factory.mktemp('run')
    data = '--data-root', shapes, '--work-dir', work_dir
    options = *TINY, '--epochs', 2, '--seed', 0
    return work_dir, run('train', CONFIG, *data, *options)


@pytest.fixture(scope='session')
def tested(trained, tmp_path_factory):
    """What a test of that run printed, and the folder with what it wrote."""
    folder = tmp_path_factory.mktemp('test')
    printed = run(
        *('test', trained[0] / CONFIG.name, trained[0] / 'epoch_2.pth'),
        *('--eval', 'bbox', 'proposal', 'bbox', '--work-dir', folder),
        *('--out', folder / 'results.pkl', '--json', folder / 'results.json'),
        *('--show-dir', folder / 'pictures', '--plots'),
        *('--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0'),
    )
    return printed, folder
