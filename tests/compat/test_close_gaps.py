"""One call closes all gaps, or says what is missing."""

import sys

import pytest

from mmdet_shufflenetv2 import compat


def test_a_missing_host_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(compat, 'HOSTS', ('torch', 'surely_no_such_host'))
    with pytest.raises(
        ImportError, match=r'^surely_no_such_host not installed.*pip install'
    ):
        compat.close_gaps()


def test_closing_the_gaps_again_changes_nothing():
    from mmengine.fileio.backends import backends
    from mmengine.runner import CheckpointLoader

    def state() -> tuple:
        return (
            sys.modules['mmcv._ext'],
            list(sys.meta_path),
            dict(CheckpointLoader._schemes),
            dict(backends),
        )

    before = state()
    compat.close_gaps()
    assert state() == before
