"""The stand-in for ``mmcv._ext`` is used only if it is needed."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import mmcv
import pytest
import torch

from mmdet_shufflenetv2.compat import apply_patches
from mmdet_shufflenetv2.compat.kernels import KERNELS


def is_stand_in(module: ModuleType) -> bool:
    return getattr(module, 'nms', None) is KERNELS['nms']


has_no_compiled_ops = pytest.mark.skipif(
    not is_stand_in(sys.modules['mmcv._ext']),
    reason='a compiled mmcv is installed',
)


@pytest.fixture
def import_anew(monkeypatch, tmp_path) -> Callable[[str | None], ModuleType]:
    """Apply patches to an mmcv whose compiled part is the given code."""

    def run(code: str | None) -> ModuleType:
        monkeypatch.delitem(sys.modules, 'mmcv._ext')
        monkeypatch.setattr(mmcv, '_ext', None)
        folders = [f for f in mmcv.__path__ if not list(Path(f).glob('_ext*'))]
        if code is not None:
            (tmp_path / '_ext.py').write_text(code)
            folders.append(str(tmp_path))
        monkeypatch.setattr(mmcv, '__path__', folders)
        apply_patches()
        return sys.modules['mmcv._ext']

    return run


def test_an_absent_module_is_replaced_silently(import_anew):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert is_stand_in(import_anew(None))


def test_a_compiled_module_wins(import_anew):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        module = import_anew("def nms(): return 'compiled'")
    assert module.nms() == 'compiled'


def test_a_broken_compiled_module_is_replaced_with_a_warning(import_anew):
    with pytest.warns(UserWarning, match='undefined symbol: _ZN3c10') as seen:
        module = import_anew("raise ImportError('undefined symbol: _ZN3c10')")
    assert len(seen) == 1
    assert is_stand_in(module)


@has_no_compiled_ops
def test_the_error_of_an_unsupported_op_names_it():
    from mmcv.ops import box_iou_rotated, nms_rotated

    boxes = torch.rand(2, 5)
    with pytest.raises(NotImplementedError, match="'box_iou_rotated'"):
        box_iou_rotated(boxes, boxes)
    with pytest.raises(
        NotImplementedError, match=r"'nms_rotated'.*pip install.*mmcv"
    ):
        nms_rotated(boxes, torch.rand(2), 0.5)


def test_the_first_import_reports_a_torchvision_of_another_torch(
    import_anew, monkeypatch, tmp_path
):
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.delitem(sys.modules, 'torchvision')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ImportError,
        match=r'torchvision::nms does not exist.*pip install .*torchvision',
    ):
        import_anew(None)
