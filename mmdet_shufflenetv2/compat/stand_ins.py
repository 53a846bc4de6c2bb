"""Modules that replace missing ones.

``mmcv._ext`` is the compiled part of mmcv. The ``mmcv-lite`` wheel lacks it,
but mmdet imports ``mmcv/ops/*.py``, which call it. mmengine uses
``pkg_resources`` to locate packages for every ``_base_ = 'mmdet::...'``;
setuptools 82 dropped it.

The finder is the last one on ``sys.meta_path``. Python asks it only after all
others have failed, so an installed module always wins, and no stand-in is
loaded before it is needed.
"""

import sys
import warnings
from importlib import import_module, metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

EXT = 'mmcv._ext'


class StandInFinder(MetaPathFinder, Loader):
    """Finds and loads the stand-ins."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname not in FILLERS:
            return None
        return ModuleSpec(
            fullname, self, origin=f'stand-in of {__package__} for {fullname}'
        )

    def exec_module(self, module: ModuleType) -> None:
        FILLERS[module.__name__](module)


def _fill_ext(module: ModuleType) -> None:
    _require_torchvision()
    import torch

    from .kernels import KERNELS, not_offered

    def answer(name: str):
        # mmcv asserts at import that the module has every op, so missing ones
        # can only raise when called.
        if name.startswith('_'):
            raise AttributeError(f'module {EXT!r} has no attribute {name!r}')

        def refuse(*args, **kwargs):
            raise not_offered(f'mmcv op {name!r}')

        return refuse

    vars(module).update(
        KERNELS,
        # mmdet's and mmengine's environment reports print these.
        get_compiler_version=lambda: 'none (torchvision stand-in)',
        get_compiling_cuda_version=lambda: str(torch.version.cuda),
        __getattr__=answer,
    )


def _require_torchvision() -> None:
    """Raise a clear ImportError unless torchvision's compiled ops work."""
    try:
        import torchvision  # noqa: F401
        from torchvision.extension import _has_ops

        problem = None if _has_ops() else 'its compiled ops do not load'
    except (ImportError, RuntimeError) as error:
        problem = error
    if problem:
        raise ImportError(
            f'torchvision, which replaces {EXT} here, is missing or does not '
            f'fit this torch: {problem}. Install a matching pair, both from '
            'PyPI: pip install --upgrade --force-reinstall torch torchvision'
        )


class Distribution:
    """The part of ``pkg_resources.Distribution`` that mmengine uses."""

    def __init__(self, name: str) -> None:
        self._found = metadata.distribution(name)
        self.version = self._found.version
        self.location = str(self._found.locate_file(''))

    def has_metadata(self, name: str) -> bool:
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        return self._found.read_text(name)


def _fill_pkg_resources(module: ModuleType) -> None:
    def answer(name: str) -> None:
        raise AttributeError(
            'pkg_resources is not installed (setuptools 82 dropped it) and '
            f'its stand-in has no {name!r}; to restore the whole module: '
            'pip install "setuptools<81"'
        )

    vars(module).update(
        DistributionNotFound=metadata.PackageNotFoundError,
        get_distribution=Distribution,
        __getattr__=answer,
    )


FILLERS = {EXT: _fill_ext, 'pkg_resources': _fill_pkg_resources}


def offer_stand_ins() -> None:
    """Make ``mmcv._ext`` and ``pkg_resources`` importable.

    If the compiled module is present but does not load, the stand-in replaces
    it, with a warning that gives the reason.
    """
    finders = [f for f in sys.meta_path if isinstance(f, StandInFinder)]
    if not finders:
        finders = [StandInFinder()]
        sys.meta_path.append(finders[0])
    try:
        import_module(EXT)
    except ImportError as error:
        if find_spec(EXT).loader is finders[0]:
            raise
        warnings.warn(
            f'the compiled {EXT} is present but does not load ({error}); '
            'using torchvision instead. To avoid this warning, recompile mmcv '
            'for this torch or install mmcv-lite',
            stacklevel=2,
        )
        module = module_from_spec(finders[0].find_spec(EXT))
        _fill_ext(module)
        sys.modules[EXT] = module
    # mmdet imports this class from mmcv.cnn, which lacks it if it was imported
    # before the stand-in was there, as by mmpretrain.
    early = sys.modules.get('mmcv.cnn.bricks.transformer')
    if early and not hasattr(early, 'MultiScaleDeformableAttention'):
        ops = import_module('mmcv.ops.multi_scale_deform_attn')
        early.MultiScaleDeformableAttention = ops.MultiScaleDeformableAttention


class ChangedModule(ModuleType):
    """A module with some names replaced, for use by one other module."""

    def __init__(self, module: ModuleType, **changes: Any) -> None:
        super().__init__(module.__name__)
        vars(self).update(_module=module, **changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_module'], name)
