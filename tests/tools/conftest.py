"""A tiny synthetic data set and a run of the real commands on it."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from tiny_run import CONFIG, TINY

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data.synthetic import DetectionSet, write_set


@pytest.fixture(scope='session')
def command(root):
    """Run ``tools/<name>.py`` in a process of its own."""

    def run(name, *arguments, code=0, launcher=(), cwd=root):
        finished = subprocess.run(
            [
                sys.executable,
                *launcher,
                str(root / 'tools' / f'{name}.py'),
                *map(str, arguments),
            ],
            cwd=cwd,
            env=dict(os.environ, OMP_NUM_THREADS='1'),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert finished.returncode == code, finished.stderr[-4000:]
        return finished

    return run


@pytest.fixture
def here(root, monkeypatch):
    """Run a command in this process, which saves seconds of imports.

    Gives all that it printed, to stderr too.
    """

    def run(name, *arguments, code=0, cwd=root):
        monkeypatch.chdir(cwd)
        printed, returned = io.StringIO(), 0
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                cli.main(name, [str(each) for each in arguments])
            except SystemExit as stopped:
                returned = stopped.code
        assert returned == code, printed.getvalue()[-4000:]
        return printed.getvalue()

    return run


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    content = DetectionSet(6, 4, (96, 96), seed=1, empty_rate=0.0)
    write_set(folder, content)
    return folder


@pytest.fixture(scope='session')
def trained(command, shapes, tmp_path_factory):
    """The work dir of two finished epochs, and what was printed."""
    work_dir = tmp_path_factory.mktemp('run')
    finished = command(
        'train',
        CONFIG,
        '--data-root',
        shapes,
        '--work-dir',
        work_dir,
        '--seed',
        0,
        '--cfg-options',
        *TINY,
    )
    return work_dir, finished.stdout + finished.stderr
