"""A tiny synthetic data set and a run of the real commands on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import CONFIG, TINY, run

from mmdet_shufflenetv2.data.synthetic import DetectionSet, write_set


@pytest.fixture(scope='session')
def command(root):
    """Run Python in a process of its own, on ``tools/<name>.py`` say."""

    def start(*arguments, code=0, cwd=root):
        finished = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(root)),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert finished.returncode == code, finished.stderr[-4000:]
        return finished

    return start


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
