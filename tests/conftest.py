"""Fixtures and gates shared by all tests."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from commands import ROOT, process_as_before
from mmengine.registry import DefaultScope

REAL_DATA = Path(
    os.environ.get(
        'MMDET_SHUFFLENETV2_REAL_DATA', ROOT.parent / 'shared' / 'data'
    )
)
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'google-chrome'))), None
)


def pytest_collection_modifyitems(items):
    no_gpu = pytest.mark.skip(reason='needs a CUDA device')
    no_data = pytest.mark.skip(
        reason=f'needs real images at {REAL_DATA} (set '
        'MMDET_SHUFFLENETV2_REAL_DATA)'
    )
    no_browser = pytest.mark.skip(
        reason='needs Chromium and its driver: apt install chromium-driver'
    )
    has_browser = CHROMIUM and shutil.which('chromedriver')
    for item in items:
        if 'browser' in item.keywords and not has_browser:
            item.add_marker(no_browser)
        if 'gpu' in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if 'real_data' in item.keywords and not REAL_DATA.is_dir():
            item.add_marker(no_data)


@pytest.fixture(scope='session')
def root() -> Path:
    """The project's root, where configs/ and tools/ are."""
    return ROOT


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real images; a test that uses it is ``real_data``."""
    return REAL_DATA


@pytest.fixture(scope='session')
def chromium() -> str:
    """Chromium's path; a test that uses it is ``browser``."""
    return CHROMIUM


@pytest.fixture
def written(tmp_path):
    """Write what a file of weights holds, as it is; give its path."""

    def save(content) -> str:
        path = str(tmp_path / 'theirs.pth')
        torch.save(content, path)
        return path

    return save


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Look types up in mmdet, whatever scope an earlier test's run left."""
    with DefaultScope.overwrite_default_scope('mmdet'), process_as_before():
        yield
