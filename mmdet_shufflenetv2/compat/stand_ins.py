"""Modules that answer only where the real ones are absent.

``mmcv._ext`` is the compiled part of mmcv, which the ``mmcv-lite`` wheel lacks
while ``mmcv/ops/*.py``, which mmdet imports, call it. ``pkg_resources`` is
what mmengine asks for where a package is installed, for every
``_base_ = 'mmdet::...'``; setuptools 82 dropped it.

The finder stands last on ``sys.meta_path``. Python asks it only after every
other finder has said no, so an installed module always wins, and nothing is
imported before somebody asks for it.
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
        # mmcv asserts at import that the module has every op, so the refusal
        # has to wait for the call.
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
            f'torchvision, which computes the ops of {EXT} here, is absent or '
            f'does not fit this torch: {problem}. Install a matching pair, '
            'both from PyPI: pip install --upgrade --force-reinstall torch '
            'torchvision'
        )


class Distribution:
    """What mmengine asks ``pkg_resources`` of an installed package."""

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
            f'its stand-in has no {name!r}; pip install "setuptools<81" '
            'brings the whole module back'
        )

    vars(module).update(
        DistributionNotFound=metadata.PackageNotFoundError,
        get_distribution=Distribution,
        __getattr__=answer,
    )


FILLERS = {EXT: _fill_ext, 'pkg_resources': _fill_pkg_resources}


def offer_stand_ins() -> None:
    """Make ``mmcv._ext`` and ``pkg_resources`` importable, once.

    For a compiled module that is present but does not load, the stand-in is
    put in its place, with a warning that tells why.
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
            'torchvision answers in its place. Compile mmcv again for this '
            'torch, or install mmcv-lite, to get rid of this warning',
            stacklevel=2,
        )
        module = module_from_spec(finders[0].find_spec(EXT))
        _fill_ext(module)
        sys.modules[EXT] = module
    # mmcv.cnn did without it if it was imported before, as by mmpretrain;
    # mmdet then fails to import it from there.
    early = sys.modules.get('mmcv.cnn.bricks.transformer')
    if early and not hasattr(early, 'MultiScaleDeformableAttention'):
        ops = import_module('mmcv.ops.multi_scale_deform_attn')
        early.MultiScaleDeformableAttention = ops.MultiScaleDeformableAttention


class ChangedModule(ModuleType):
    """A module with some names replaced, as one other module sees it."""

    def __init__(self, module: ModuleType, **changes: Any) -> None:
        super().__init__(module.__name__)
        vars(self).update(_module=module, **changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_module'], name)
