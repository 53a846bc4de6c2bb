"""The commands: ``tools/NAME.py`` and ``python -m mmdet_shufflenetv2 NAME``.

Each command is a module of this package. Its docstring is its help, its
``add_arguments(parser)`` says what it takes, its ``run(args)`` does it. The
module is imported when its command is called, so that one which needs no
PyTorch runs without it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ..errors import UserError


def main(name: str, argv: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        name: of the command and its module, ``-`` for ``_``.
        argv: its arguments; those of this process by default.
    """
    command = import_module(f'.{name.replace("-", "_")}', __name__)
    parser = argparse.ArgumentParser(
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    args = parser.parse_args(argv)
    report_errors(lambda: command.run(args))


def report_errors(run: Callable[[], None]) -> None:
    """Run it; show an expected error as one message, with exit code 2.

    An error of this package says by itself what is wrong, and one of the
    operating system does if it names a file; anything else is a bug, and
    keeps its traceback.
    """
    try:
        run()
    except KeyboardInterrupt as stopped:
        print(f'\n{str(stopped) or "stopped"}', file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f'error: {error.filename}: {error.strerror}', file=sys.stderr)
        sys.exit(2)
