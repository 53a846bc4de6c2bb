"""Files that are whole or not there.

mmengine opens a checkpoint's final name and writes into it, so Ctrl-C, a
full disk or a crash leaves half a file under a name that looks complete.
Here the content goes to another name in the same folder first.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: How the hidden names of files that are being written end.
_PART = '.part'


@contextmanager
def whole_file(
    path: str | Path, mode: str = 'wb', encoding: str | None = None
) -> Iterator[IO]:
    """Open ``path`` for writing; it changes only when all is written.

    Folders are made as needed. Until the end, and after any exception, what
    was at ``path`` stays as it was.

    Args:
        path: A link is followed. Anything that is there and not a regular
            file, such as ``/dev/stdout``, is written to directly.
        mode: 'wb' or 'w'.

    Raises:
        OSError: Of the fitting kind, naming ``path``.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists() and not target.is_file():
            with open(target, mode, encoding=encoding) as file:
                yield file
            return
        part = target.with_name(f'.{target.name}.{uuid.uuid4().hex}{_PART}')
        try:
            with open(part, mode, encoding=encoding) as file:
                _lock(file)
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _lock(file: IO) -> bool:
    """Lock a file until it is closed, or its process is gone.

    Returns:
        Whether nobody else is writing to it, as far as can be known: a file
        system may have no locks. Windows needs none, for it removes no file
        that is open.
    """
    if fcntl is None:
        return os.name == 'nt'
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_abandoned(folder: str | Path) -> list[Path]:
    """Remove what processes were writing into a folder when they were killed.

    What a living process writes is left alone, as is everything on a file
    system without locks.

    Returns:
        The paths of what was removed.
    """
    removed = []
    for part in sorted(Path(folder).glob(f'.*{_PART}')):
        try:
            with open(part, 'rb') as file:
                abandoned = _lock(file)
            if abandoned:
                part.unlink()
                removed.append(part)
        except (FileNotFoundError, PermissionError):
            continue  # just finished by its process, or open on Windows
    return removed


def write_atomically() -> None:
    """Let mmengine write checkpoints, results and its notes atomically."""
    from mmengine.fileio import LocalBackend, register_backend
    from mmengine.hooks import checkpoint_hook

    class AtomicLocalBackend(LocalBackend):
        """mmengine's backend of the local disk, with whole files only."""

        def put(self, obj: bytes, filepath: str | Path) -> None:
            with whole_file(filepath) as file:
                file.write(obj)

        def put_text(
            self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
        ) -> None:
            with whole_file(filepath, 'w', encoding) as file:
                file.write(obj)

    if getattr(checkpoint_hook, 'open', None) is whole_file:
        return
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    # The hook writes the name of the last checkpoint past the backends, with
    # the built-in open, which it uses for nothing else.
    checkpoint_hook.open = whole_file
