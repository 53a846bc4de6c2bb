from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def with_runs(root, tmp_path) -> Callable[..., Path]:
    """A folder of the committed results and some (config, data, mAP) more."""

    def make(*runs: tuple[str, str, float]) -> Path:
        text = (root / 'results' / 'trained.csv').read_text()
        columns = text.splitlines()[0].split(',')
        for config, data, mmap in runs:
            run = dict(config=config, data=data, mAP=str(mmap))
            text += ','.join(run.get(c, '') for c in columns) + '\n'
        (tmp_path / 'trained.csv').write_text(text)
        return tmp_path

    return make
