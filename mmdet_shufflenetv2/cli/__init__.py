"""The commands: ``tools/NAME.py`` and ``python -m mmdet_shufflenetv2 NAME``.

Each command is a module of this package: its docstring is the help text,
``add_arguments(parser)`` declares the arguments and ``run(args)`` does the
work. A module is imported only when its command is called, and imports heavy
packages only when it runs, so commands that do not need PyTorch work without.
"""

import argparse
import ast
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from ..compat.host_faults import hide_pkg_resources_warning
from ..errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# Other names of commands, with the arguments that they imply.
ALIASES = {'demo': ['predict'], 'guidelines': ['benchmark', 'guidelines']}


def main(
    name: str, argv: Sequence[str] | None = None, prog: str | None = None
) -> None:
    """Run one command.

    Args:
        name: Name of the command's module, with ``-`` for ``_``, or an alias.
        argv: Arguments of the command; default: those of this process.
        prog: Program name shown in the help; default: the script's name.
    """
    module, *implied = ALIASES.get(name, [name])
    given = sys.argv[1:] if argv is None else argv
    if implied and prog is None:
        # So that the usage in the help is one that works.
        prog = f'{module}.py'

    def run() -> None:
        command = import_module(f'.{module.replace("-", "_")}', __name__)
        parser = argparse.ArgumentParser(
            prog=prog,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
        command.run(parser.parse_args([*implied, *given]))

    report_errors(run)


def console(argv: Sequence[str] | None = None) -> None:
    """Run the command named by the first argument, or list all commands."""
    argv = sys.argv[1:] if argv is None else argv
    commands = list_commands()
    if not argv or argv[0] in ('-h', '--help'):
        print('usage: mmdet-shufflenetv2 COMMAND [ARGUMENTS]\n')
        print(f'configs: {resource_root() / "configs"}\n')
        for name, purpose in commands.items():
            print(f'  {name:<20} {purpose}')
        return
    name = argv[0].replace('-', '_')
    if name not in commands:
        sys.exit(
            f'error: COMMAND: expected one of {", ".join(commands)}, '
            f'got {argv[0]!r}'
        )
    prog = f'mmdet-shufflenetv2 {ALIASES.get(name, argv)[0]}'
    main(name, argv[1:], prog)


def list_commands() -> dict[str, str]:
    """Map each command to the first line of its docstring."""
    purposes = {}
    for path in PACKAGE.glob('cli/*.py'):
        if path.stem not in ('__init__', 'options'):
            doc = ast.get_docstring(ast.parse(path.read_text('utf-8')))
            purposes[path.stem] = doc.partition('\n')[0]
    for alias, words in ALIASES.items():
        purposes[alias] = f'the same as {" ".join(words)}'
    return dict(sorted(purposes.items()))


def resource_root() -> Path:
    """The parent of ``configs/``: the checkout, or ``.mim`` in a wheel."""
    installed = PACKAGE / '.mim'
    return installed if installed.is_dir() else PACKAGE.parent


def report_errors(run: Callable[[], None]) -> None:
    """Call ``run``; print an expected error as one line and exit with 2.

    Expected are this package's own errors, operating system errors that name
    a file, and errors from building what a config describes. Anything else is
    a bug and keeps its traceback.
    """
    os.environ.setdefault('LOCAL_RANK', '0')
    hide_pkg_resources_warning()
    try:
        run()
    except (KeyboardInterrupt, Exception) as error:
        # mmengine turns Ctrl-C into a SyntaxError while it formats a config.
        for stopped in error, error.__context__:
            if isinstance(stopped, KeyboardInterrupt):
                print(f'\n{str(stopped) or "stopped"}', file=sys.stderr)
                sys.exit(130)
        message = _message(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)
    # A live process group's threads can abort the process at exit.
    dist = sys.modules.get('torch.distributed')
    if dist and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _message(error: Exception) -> str | None:
    """The message to print for an expected error, None for any other."""
    if isinstance(error, UserError):
        # Data loader workers re-raise errors with the traceback as text.
        if 'Original Traceback' in str(error):
            marker = f'{type(error).__name__}: '
            return str(error).rpartition(marker)[2].strip()
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    if isinstance(error, FileNotFoundError):
        return str(error)
    # mmengine's registry passes config entries to constructors: Python
    # rejects an unknown argument, this package a wrong value.
    files = [f.filename for f in traceback.extract_tb(error.__traceback__)]
    build = sys.modules.get('mmengine.registry.build_functions')
    if build is None or build.__file__ not in files:
        return None
    is_bad_argument = files[-1].startswith(str(PACKAGE)) and (
        isinstance(error, ValueError) or 'keyword argument' in str(error)
    )
    if files[-1] == build.__file__ or is_bad_argument:
        return f'in the config: {error.args[0]}'
    return None
