"""Stand-ins answer last, and only for their own names."""

import importlib
import sys

import pytest

from mmdet_shufflenetv2.compat.stand_ins import (
    ChangedModule,
    StandInFinder,
    offer_stand_ins,
)

NAME = 'module_that_nobody_has_installed'


@pytest.fixture(autouse=True)
def own_import_path(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    yield
    sys.modules.pop(NAME, None)


def test_an_absent_module_is_filled_and_can_be_reloaded():
    fillings = []
    offer_stand_ins({NAME: fillings.append})
    assert fillings == []
    module = importlib.import_module(NAME)
    assert importlib.reload(module) is module
    assert fillings == [module, module]


def test_an_installed_module_wins(tmp_path, monkeypatch):
    (tmp_path / f'{NAME}.py').write_text('real = True')
    monkeypatch.syspath_prepend(tmp_path)
    offer_stand_ins({NAME: lambda module: pytest.fail('was asked')})
    assert importlib.import_module(NAME).real


def test_other_modules_stay_absent():
    offer_stand_ins({NAME: lambda module: None})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME + '_2')


def test_offering_twice_leaves_one_finder():
    first = offer_stand_ins({NAME: lambda module: None})
    assert offer_stand_ins({NAME: lambda module: None}) is first
    count = sum(isinstance(f, StandInFinder) for f in sys.meta_path)
    assert count == 1


def test_a_changed_module_is_the_module_but_for_the_changes():
    changed = ChangedModule(importlib, reload=None)
    assert changed.reload is None
    assert changed.import_module is importlib.import_module
    assert changed.__name__ == 'importlib'
    assert importlib.reload
    with pytest.raises(AttributeError, match='nonsense'):
        changed.nonsense  # noqa: B018
