"""Packages are found although setuptools has no ``pkg_resources``."""

import inspect
import sys
import warnings
from importlib.abc import MetaPathFinder
from types import ModuleType

import numpy
import pytest
from mmengine.config import Config
from mmengine.utils import (
    is_installed,
    package_utils,
)

from mmdet_shufflenetv2.compat.host_faults import (
    hide_pkg_resources_warning,
)
from mmdet_shufflenetv2.compat.stand_ins import FILLERS, StandInFinder

host_asks = pytest.mark.skipif(
    'pkg_resources' not in inspect.getsource(package_utils),
    reason='this mmengine asks importlib.metadata by itself',
)


class Without(MetaPathFinder):
    """Another finder that no longer knows ``pkg_resources``."""

    def __init__(self, finder) -> None:
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name == 'pkg_resources':
            return None
        return self.finder.find_spec(name, path, target)


@pytest.fixture
def no_pkg_resources(monkeypatch) -> list:
    """The import path as with setuptools >= 82."""
    for name in [n for n in sys.modules if n.startswith('pkg_resources')]:
        monkeypatch.delitem(sys.modules, name)
    finders = [
        finder if isinstance(finder, StandInFinder) else Without(finder)
        for finder in sys.meta_path
    ]
    monkeypatch.setattr(sys, 'meta_path', finders)
    yield finders
    sys.modules.pop('pkg_resources', None)


@host_asks
@pytest.mark.usefixtures('no_pkg_resources')
def test_a_base_config_of_mmdet_is_found(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
    )
    assert Config.fromfile(config).model.type == 'RetinaNet'
    assert 'stand-in' in sys.modules['pkg_resources'].__spec__.origin


@host_asks
def test_its_deprecation_is_not_the_users(recwarn):
    warnings.simplefilter('always')
    is_installed('mmdet')
    loud = [str(each.message) for each in recwarn]
    recwarn.clear()
    hide_pkg_resources_warning()
    is_installed('mmdet')
    assert [str(each.message) for each in recwarn] == []
    assert all('pkg_resources' in message for message in loud)


@pytest.fixture
def module() -> ModuleType:
    module = ModuleType('pkg_resources')
    FILLERS['pkg_resources'](module)
    return module


def test_it_knows_version_folder_and_metadata(module):
    found = module.get_distribution('numpy')
    assert found.version == numpy.__version__
    assert numpy.__file__.startswith(found.location)
    assert found.has_metadata('METADATA')
    assert 'Name: numpy' in found.get_metadata('METADATA')
    assert not found.has_metadata('nonsense')
    with pytest.raises(module.DistributionNotFound, match='surely-not'):
        module.get_distribution('surely-not')
    with pytest.raises(AttributeError, match=r"'WorkingSet'.*setuptools<81"):
        module.WorkingSet  # noqa: B018
