"""Checkpoints hold data, never code.

mmengine stores NumPy arrays and its own ``HistoryBuffer`` beside the weights.
torch >= 2.6 refuses both by default; older ones run whatever a file says.
Here exactly those types are allowed, and everything that mmengine loads is
held to them, on every torch.
"""

import codecs
import functools
import os
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.error import URLError

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, checkpoint

from ..errors import UserError
from .stand_ins import ChangedModule


class CheckpointError(UserError):
    """A file that cannot be read as a checkpoint, or must not be."""


def _alias(function: Callable, full_name: str) -> Callable:
    """``function`` under the name by which pickles refer to another."""

    def named(*args):
        return function(*args)

    named.__module__, _, named.__name__ = full_name.rpartition('.')
    named.__qualname__ = named.__name__
    return named


def _statistics_method(owner: type, name: str) -> Callable:
    """What ``getattr`` means in a pickle of mmengine, and no more.

    A ``HistoryBuffer`` stores its statistics as methods, which pickle spells
    as ``getattr(HistoryBuffer, 'mean')``. The real ``getattr`` would open
    every attribute of every allowed object.
    """
    if owner is HistoryBuffer and name in HistoryBuffer._statistics_methods:
        return HistoryBuffer._statistics_methods[name]
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({name})')


def _rebuild_array(subtype: type, shape: tuple, kind: bytes) -> np.ndarray:
    """NumPy's own first step of unpickling an array, for plain arrays."""
    if subtype is not np.ndarray:
        raise pickle.UnpicklingError(
            f'Unsupported global: GLOBAL {subtype!r} as an array'
        )
    return np.ndarray.__new__(subtype, shape, kind)


@functools.cache
def _safe_types() -> list:
    scalar = np.float64(0).__reduce__()[0]
    return [
        HistoryBuffer,
        ConfigDict,  # the meta data that a config gives to its data set
        _alias(_statistics_method, 'builtins.getattr'),
        codecs.encode,  # how pickle spells bytes; torch 2.4 lacks it
        np.ndarray,
        np.dtype,
        # What a metric, a learning rate or a counter can be.
        *{type(np.dtype(code)) for code in '?bhilqBHILQefd'},
        # NumPy 2 renamed the module; a file may come from either.
        *(
            _alias(function, f'numpy.{core}.multiarray.{name}')
            for core in ('core', '_core')
            for function, name in (
                (_rebuild_array, '_reconstruct'),
                (scalar, 'scalar'),
            )
        ),
    ]


# These say by themselves what is wrong, and it is not the file's content.
PLAIN_ERRORS = (
    *(FileNotFoundError, IsADirectoryError, PermissionError, URLError),
    *(MemoryError, torch.cuda.OutOfMemoryError, ImportError),
)


def _clear_error(filename: str, error: Exception) -> CheckpointError:
    """Says which file is refused or broken, and why.

    torch's own error advises ``weights_only=False``, which would run what
    the file says. A broken file can raise nearly anything.
    """
    refused = re.search(r'GLOBAL (\S+)', str(error))
    if refused:
        return CheckpointError(
            f'checkpoint {filename} is refused: it asks for {refused[1]!r}, '
            'and a checkpoint may hold only tensors, numbers, text and their '
            'containers. Nothing of it was run. If you made the file '
            'yourself, save its state_dict() instead'
        )
    reason = str(error).partition('. ')[0].partition('\n')[0]
    return CheckpointError(
        f'checkpoint {filename} cannot be read: it is truncated, damaged '
        f'or not a checkpoint ({type(error).__name__}: {reason[:200]})'
    )


def guard_loading() -> None:
    """Hold every loader of mmengine's checkpoints to ``weights_only``.

    A user who has set ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` gets what PyTorch
    says of it, until a command calls `never_run_code`.
    """
    HistoryBuffer()  # the first one of a process registers its statistics
    torch.serialization.add_safe_globals(_safe_types())
    if isinstance(checkpoint.torch, ChangedModule):
        return
    checkpoint.torch = ChangedModule(torch, load=_load)
    download = checkpoint.load_url
    checkpoint.load_url = lambda *args, **options: download(
        *args, **options, weights_only=not _user_allows_code
    )
    if hasattr(checkpoint, '_safe_torch_load'):
        # onedl-mmengine's own answer allows the real getattr, takes the
        # types back after each file, and tries again without weights_only.
        checkpoint._safe_torch_load = _load
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        CheckpointLoader.register_scheme(prefix, _guarded(loader), force=True)


#: Whether the user asked PyTorch to run what checkpoints say. What sets the
#: variable later is not the user.
_user_allows_code = os.getenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0') in (
    *('1', 'y', 'yes', 'true'),
)


def never_run_code() -> None:
    """Load data only, whatever the user's environment says."""
    global _user_allows_code
    _user_allows_code = False


def _load(file: str | BinaryIO, map_location: Any = None, **_: Any) -> Any:
    # Where it is not given, torch reads the user's variable.
    weights_only = None if _user_allows_code else True
    return torch.load(file, map_location, weights_only=weights_only)


def _guarded(loader: Callable) -> Callable:
    @functools.wraps(loader)
    def load(filename: str, *args: Any, **options: Any) -> dict:
        try:
            content = loader(filename, *args, **options)
        except PLAIN_ERRORS:
            raise
        except Exception as error:
            raise _clear_error(filename, error) from None
        parts = [content]
        if isinstance(content, dict):
            parts = [content.get(key, {}) for key in ('state_dict', 'meta')]
        if not all(isinstance(part, dict) for part in parts):
            raise CheckpointError(
                f'checkpoint {filename} is not one: its state_dict and meta, '
                'and the whole, must be a dict of named entries, got '
                + ', '.join(type(part).__name__ for part in parts)
            )
        return content

    return load
