"""A competitor in a process of its own.

The threads of one runtime (ONNX Runtime, OpenVINO) wait for work by spinning:
beside them an eager PyTorch pass in the same process looked 4 times slower.
So competitors of different runtimes get a process each, and run in turn; a
process stands still while it is not its turn.
"""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

from .setting import Setting


class Process:
    """A function that is built and called in another process.

    Used in a ``with`` block, and given to `interleave` beside others.
    Whatever fails there raises the same here; `BrokenProcessPool` says that
    the process ended.

    Args:
        build: gives what is to be called; picklable.
        setting: threads and clock of the process.
    """

    def __init__(self, build: Callable[[], Callable], setting: Setting):
        # Ctrl-C ends it without a word, even while it stands still.
        at_start = dict(initializer=signal.signal)
        at_start['initargs'] = signal.SIGINT, signal.SIG_DFL
        self._pool = ProcessPoolExecutor(1, get_context('spawn'), **at_start)
        self.pid = self._pool.submit(os.getpid).result()
        self._built = self._pool.submit(_build, build, setting)

    def __enter__(self) -> 'Process':
        try:
            self._built.result()
        except BaseException:
            self.__exit__()
            raise
        self._signal('SIGSTOP')
        return self

    def __exit__(self, *error: object) -> None:
        self._signal('SIGCONT')
        self._pool.shutdown()

    def elapsed_ms(self) -> float:
        """Call the function once; milliseconds by the other side's clock."""
        self._signal('SIGCONT')
        elapsed = self._pool.submit(_elapsed_ms).result()
        self._signal('SIGSTOP')
        return elapsed

    def _signal(self, name: str) -> None:
        # Windows has neither.
        if hasattr(signal, name):
            with suppress(ProcessLookupError):
                os.kill(self.pid, getattr(signal, name))


def _build(build: Callable[[], Callable], setting: Setting) -> None:
    """In the other process: make what `_elapsed_ms` calls."""
    global _function, _watch
    setting.apply()
    _function, _watch = build(), setting.stopwatch()


def _elapsed_ms() -> float:
    return _watch(_function)
