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
    """Make mmengine write checkpoints, results and notes atomically.

    It also removes an old checkpoint only when the new one is written: a run
    that is killed in between would lose its best, or its only checkpoint.
    """
    from mmengine.fileio import LocalBackend, register_backend
    from mmengine.hooks import checkpoint_hook
    from mmengine.registry import HOOKS

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

    class CheckpointHook(checkpoint_hook.CheckpointHook):
        """mmengine's hook, removing old checkpoints last."""

        def before_train(self, runner) -> None:
            super().before_train(runner)
            self.remove, self.obsolete = self.file_backend.remove, []
            self.file_backend.remove = self.obsolete.append

        def _save_checkpoint_with_step(self, runner, step, meta) -> None:
            super()._save_checkpoint_with_step(runner, step, meta)
            self._remove_obsolete(runner)

        def _save_best_checkpoint(self, runner, metrics) -> None:
            super()._save_best_checkpoint(runner, metrics)
            self._remove_obsolete(runner)

        def _remove_obsolete(self, runner) -> None:
            known = runner.message_hub.runtime_info
            # The new file may have the name of the old one.
            saved = [path for name, path in known.items() if 'ckpt' in name]
            while self.obsolete:
                path = self.obsolete.pop()
                if path not in saved:
                    self.remove(path)

    if getattr(checkpoint_hook, 'open', None) is whole_file:
        return
    HOOKS.register_module('CheckpointHook', module=CheckpointHook, force=True)
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    # The hook uses the built-in open, not a backend, to write the name of the
    # last checkpoint, and for nothing else.
    checkpoint_hook.open = whole_file
