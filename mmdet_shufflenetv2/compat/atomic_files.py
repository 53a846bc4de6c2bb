"""Files that are whole or not there.

mmengine opens a checkpoint's final name and writes into it, so Ctrl-C, a
full disk or a crash leaves half a file under a name that looks complete.
Here the content goes to another name in the same folder first.
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
    """Open ``path`` for writing; it changes only when all is written.

    Folders are made as needed. Until the end, and after any exception, what
    was at ``path`` stays as it was. A link is followed; what is there and not
    a regular file, such as ``/dev/stdout``, is written to directly.

    Args:
        path: The file.
        mode: 'wb' or 'w'.

    Raises:
        OSError: Of the fitting kind, naming ``path``.
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
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_abandoned(folder: str | Path) -> list[Path]:
    """Remove what processes were writing into a folder when they were killed.

    Args:
        folder: One that nobody else is writing to.

    Returns:
        The paths of what was removed.
    """
    removed = sorted(Path(folder).glob('.*.part'))
    for part in removed:
        part.unlink(missing_ok=True)
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
