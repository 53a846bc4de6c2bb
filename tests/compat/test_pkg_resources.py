"""Packages are found even if setuptools has no ``pkg_resources``."""

import inspect
import sys
import warnings
from subprocess import PIPE, run
from types import ModuleType

import numpy
import pytest
from mmengine.config import Config
from mmengine.utils import is_installed, package_utils

from mmdet_shufflenetv2.compat.host_faults import hide_pkg_resources_warning
from mmdet_shufflenetv2.compat.stand_ins import FILLERS, StandInFinder

host_asks = pytest.mark.skipif(
    'pkg_resources' not in inspect.getsource(package_utils),
    reason='this mmengine asks importlib.metadata by itself',
)


@host_asks
def test_a_base_config_of_mmdet_is_found(tmp_path, monkeypatch):
    # As with setuptools >= 82, which has no such module.
    finders = sorted(
        sys.meta_path, key=lambda each: not isinstance(each, StandInFinder)
    )
    monkeypatch.setattr(sys, 'meta_path', finders)
    for name in [n for n in sys.modules if n.startswith('pkg_resources')]:
        monkeypatch.delitem(sys.modules, name)
    config = tmp_path / 'config.py'
    config.write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
    )
    assert Config.fromfile(config).model.type == 'RetinaNet'
    assert 'stand-in' in sys.modules.pop('pkg_resources').__spec__.origin


@host_asks
def test_its_deprecation_warning_is_hidden(recwarn, monkeypatch):
    monkeypatch.delenv('PYTHONWARNINGS', raising=False)
    warnings.simplefilter('always')
    hide_pkg_resources_warning()
    is_installed('mmdet')
    assert [str(each.message) for each in recwarn] == []
    code = "from mmengine.utils import is_installed; is_installed('mmdet')"
    child = run([sys.executable, '-c', code], stderr=PIPE, check=True)
    assert child.stderr == b''


def test_it_knows_version_folder_and_metadata():
    module = ModuleType('pkg_resources')
    FILLERS['pkg_resources'](module)
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
