"""Load checkpoints as data, never as code.

mmengine stores NumPy arrays and its own ``HistoryBuffer`` beside the weights.
torch >= 2.6 rejects both by default; older versions run any code in a file.
Here mmengine's loaders accept exactly those types, with every torch.
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
    """A file is not a valid checkpoint, or is not safe to load."""


def _alias(function: Callable, full_name: str) -> Callable:
    """Wrap a function under the full name that pickles refer to."""

    def named(*args):
        return function(*args)

    named.__module__, _, named.__name__ = full_name.rpartition('.')
    named.__qualname__ = named.__name__
    return named


def _statistics_method(owner: type, name: str) -> Callable:
    """The one use of ``getattr`` that mmengine's pickles need.

    A ``HistoryBuffer`` stores its statistics as methods, which pickle writes
    as ``getattr(HistoryBuffer, 'mean')``. The real ``getattr`` would give
    access to every attribute of every allowed object.
    """
    if owner is HistoryBuffer and name in HistoryBuffer._statistics_methods:
        return HistoryBuffer._statistics_methods[name]
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({name})')


@functools.cache
def _safe_types() -> list:
    # Makes an array only of a class that is allowed itself: np.ndarray.
    array, scalar = (x.__reduce__()[0] for x in (np.empty(0), np.float64(0)))
    return [
        HistoryBuffer,
        ConfigDict,  # for the metadata that a config gives to its dataset
        _alias(_statistics_method, 'builtins.getattr'),
        codecs.encode,  # pickles use it for bytes; torch 2.4 does not allow it
        np.ndarray,
        np.dtype,
        # Types of metrics, learning rates and counters.
        *{type(np.dtype(code)) for code in '?bhilqBHILQefd'},
        # NumPy 2 renamed the module; files may come from either version.
        *(
            _alias(function, f'numpy.{core}.multiarray.{name}')
            for core in ('core', '_core')
            for function, name in (
                (array, '_reconstruct'),
                (scalar, 'scalar'),
            )
        ),
    ]


# These are clear as they are, and not about the file's content.
PLAIN_ERRORS = (
    *(FileNotFoundError, IsADirectoryError, PermissionError, URLError),
    *(MemoryError, torch.cuda.OutOfMemoryError, ImportError),
)


def _clear_error(filename: str, error: Exception) -> CheckpointError:
    """An error that says which file is refused or broken, and why.

    torch's own error suggests ``weights_only=False``, which would run code
    from the file. Broken files can raise nearly any exception.
    """
    refused = re.search(r'GLOBAL (\S+)', str(error))
    if refused:
        return CheckpointError(
            f'checkpoint {filename} is refused: it refers to {refused[1]!r}, '
            'but may contain only tensors, numbers, text and containers of '
            'them. None of its code was run. If you created the file '
            'yourself, save its state_dict() instead'
        )
    reason = str(error).partition('. ')[0].partition('\n')[0]
    return CheckpointError(
        f'checkpoint {filename} cannot be read: it is truncated, damaged '
        f'or not a checkpoint ({type(error).__name__}: {reason[:200]})'
    )


def guard_loading() -> None:
    """Make all of mmengine's checkpoint loaders use ``weights_only``.

    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD``, if the user has set it, keeps its
    meaning until a command calls `never_run_code`.
    """
    HistoryBuffer()  # the first instance registers the statistics methods
    torch.serialization.add_safe_globals(_safe_types())
    if isinstance(checkpoint.torch, ChangedModule):
        return
    checkpoint.torch = ChangedModule(torch, load=_load)
    download = checkpoint.load_url
    checkpoint.load_url = lambda *args, **options: download(
        *args, **options, weights_only=not _user_allows_code
    )
    if hasattr(checkpoint, '_safe_torch_load'):
        # onedl-mmengine's own version allows the real getattr, removes the
        # safe types after each file, and retries without weights_only.
        checkpoint._safe_torch_load = _load
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        CheckpointLoader.register_scheme(prefix, _guarded(loader), force=True)


#: Whether the user lets PyTorch run code from checkpoints. Read only once:
#: if the variable is set later, the user did not set it.
_user_allows_code = os.getenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0') in (
    *('1', 'y', 'yes', 'true'),
)


def never_run_code() -> None:
    """Load data only, whatever the environment says."""
    global _user_allows_code
    _user_allows_code = False


def _load(file: str | BinaryIO, map_location: Any = None, **_: Any) -> Any:
    # If it is None, torch reads the environment variable.
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
                f'checkpoint {filename} is invalid: expected a dict whose '
                'state_dict and meta, if present, are dicts, got '
                + ', '.join(type(part).__name__ for part in parts)
            )
        return content

    return load
