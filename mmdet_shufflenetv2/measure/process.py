"""A competitor in a process of its own.

The threads of one runtime (ONNX Runtime, OpenVINO) wait for work by spinning:
beside them an eager PyTorch pass in the same process looked 4 times slower.
So competitors of different runtimes get a process each, and run in turn; a
process stands still while it is not its turn.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable

from .setting import Setting


class Process:
    """A function that is built and called in another process.

    Used in a ``with`` block, and given to `interleave` beside others.

    Args:
        build: gives what is to be called; picklable.
        setting: threads and clock of the process.
    """

    def __init__(self, build: Callable[[], Callable], setting: Setting):
        self._name = getattr(build, 'func', build).__qualname__
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, build, setting), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> 'Process':
        try:
            self._receive()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def elapsed_ms(self) -> float:
        """Call the function once; milliseconds by the other side's clock.

        Raises:
            RuntimeError: it failed there, or the process ended.
        """
        self._signal('SIGCONT')
        self._pipe.send('run')
        return self._receive()

    def _receive(self) -> float:
        try:
            elapsed, problem = self._pipe.recv()
        except EOFError:
            self._process.join()
            problem = f'it ended with exit code {self._process.exitcode}'
        if problem:
            raise RuntimeError(f'the process of {self._name}: {problem}')
        self._signal('SIGSTOP')
        return elapsed

    def _signal(self, name: str) -> None:
        # Windows has neither.
        if hasattr(signal, name) and self._process.is_alive():
            os.kill(self._process.pid, getattr(signal, name))


def _serve(pipe, build: Callable[[], Callable], setting: Setting) -> None:
    """Build a function, then call it whenever the other side says so."""
    try:
        setting.apply()
        function, watch = build(), setting.stopwatch()
        pipe.send((0.0, None))
        while True:
            pipe.recv()
            pipe.send((watch(function), None))
    except EOFError:
        # Nobody wants more.
        pass
    except Exception as error:
        pipe.send((0.0, f'{type(error).__name__}: {error}'))
