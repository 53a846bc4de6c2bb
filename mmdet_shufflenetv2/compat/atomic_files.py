"""Atomic file writing.

mmengine writes checkpoints under their final names, so Ctrl-C, a full disk or
a crash leaves half a file that looks complete. Here the content is written to
a temporary file in the same folder first, then renamed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(
    path: str | Path, mode: str = 'wb', encoding: str | None = None
) -> Iterator[IO]:
    """Open ``path`` for writing, and replace it only on success.

    Creates missing folders. An existing file is unchanged until the block
    ends, and after any exception. Links are followed; paths that are not
    regular files, such as ``/dev/stdout``, are written to directly.

    Args:
        path: The file.
        mode: 'wb' or 'w'.

    Raises:
        OSError: A subclass that fits the error, with ``path`` unless the
            block raised it about another file.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f'.{target.name}.{os.getpid()}.part')
    direct = target.exists() and not target.is_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            where = target if direct else part
            with open(where, mode, encoding=encoding) as file:
                yield file
                file.flush()
                if not direct:
                    os.fsync(file.fileno())
            if target.is_file():
                shutil.copymode(target, part)
            if not direct:
                os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        own = None, str(part), str(target)
        if error.errno is None or error.filename not in own:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_abandoned(folder: str | Path) -> list[Path]:
    """Remove temporary files that killed processes left in a folder.

    Args:
        folder: No other process may be writing to it.

    Returns:
        The paths of the removed files.
    """
    removed = sorted(Path(folder).glob('.*.part'))
    for part in removed:
        part.unlink(missing_ok=True)
    return removed


def write_atomically() -> None:
    """Make mmengine write checkpoints, results and notes atomically."""
    from mmengine.fileio import LocalBackend, register_backend
    from mmengine.hooks import checkpoint_hook

    class AtomicLocalBackend(LocalBackend):
        """mmengine's local disk backend with atomic writes."""

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
    # The hook uses the built-in open, not a backend, to write the name of the
    # last checkpoint, and for nothing else.
    checkpoint_hook.open = whole_file
