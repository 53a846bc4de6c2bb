"""Run a competitor in its own process.

Runtimes such as ONNX Runtime and OpenVINO have threads that spin while they
wait for work, which made an eager PyTorch pass in the same process look 4
times slower. Competitors of different runtimes therefore get a process each,
which is stopped (SIGSTOP) except when it is its turn.
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

    Use it in a ``with`` block and pass it to `interleave`. Exceptions of the
    process are raised here; `BrokenProcessPool` means that it died.

    Args:
        build: returns the function to call; must be picklable.
        setting: the setting (threads, clock) of the process.
    """

    def __init__(self, build: Callable[[], Callable], setting: Setting):
        # Let Ctrl-C end the process without a traceback, even while stopped.
        on_start = dict(
            initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)
        )
        self._pool = ProcessPoolExecutor(1, get_context('spawn'), **on_start)
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
        """Call the function once; return milliseconds by its own clock."""
        self._signal('SIGCONT')
        elapsed = self._pool.submit(_elapsed_ms).result()
        self._signal('SIGSTOP')
        return elapsed

    def _signal(self, name: str) -> None:
        # Windows has neither SIGSTOP nor SIGCONT.
        if hasattr(signal, name):
            with suppress(ProcessLookupError):
                os.kill(self.pid, getattr(signal, name))


def _build(build: Callable[[], Callable], setting: Setting) -> None:
    """In the other process: build the function that `_elapsed_ms` calls."""
    global _function, _watch
    setting.apply()
    _function, _watch = build(), setting.stopwatch()


def _elapsed_ms() -> float:
    return _watch(_function)
