import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def with_runs(root, tmp_path_factory) -> Callable[..., Path]:
    """A folder of the committed results and some (config, data, mAP) more."""

    def make(*runs: tuple[str, str, float]) -> Path:
        text = (root / 'results' / 'trained.csv').read_text()
        columns = text.splitlines()[0].split(',')
        for config, data, mmap in runs:
            run = dict(config=config, data=data, mAP=str(mmap))
            text += ','.join(run.get(c, '') for c in columns) + '\n'
        folder = tmp_path_factory.mktemp('results')
        (folder / 'trained.csv').write_text(text)
        shutil.copy(root / 'results' / 'bccd_backbones.csv', folder)
        return folder

    return make
