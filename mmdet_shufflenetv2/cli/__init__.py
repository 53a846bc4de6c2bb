"""The commands: ``tools/NAME.py`` and ``python -m mmdet_shufflenetv2 NAME``.

Each command is a module of this package. Its docstring is its help, its
``add_arguments(parser)`` says what it takes, its ``run(args)`` does it. The
module is imported when its command is called, and imports what is heavy when
it runs, so that a command that needs no PyTorch works without it.
"""

import argparse
import ast
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ..errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# Modules of this folder that are not commands.
HELPERS = {'__init__', 'options'}


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
    with _process_as_before():
        report_errors(lambda: command.run(args))


@contextmanager
def _process_as_before() -> Iterator[None]:
    """Take back what a command sets for its process.

    What it imports stays, and so do files that are written whole.
    """
    environment, loaded = dict(os.environ), []
    torch = sys.modules.get('torch')
    threads = torch.get_num_threads() if torch else None
    device = sys.modules.get('mmengine.device.utils')
    device_name = device.DEVICE if device else None
    for host in 'mmdet', 'mmpretrain':
        registry = sys.modules.get(f'{host}.registry')
        if registry:
            names = registry.TRANSFORMS.module_dict
            loaded.append((names, names.get('LoadImageFromFile')))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for names, loader in loaded:
            names.pop('LoadImageFromFile', None)
            if loader:
                names['LoadImageFromFile'] = loader
        if torch:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)
        if device:
            device.DEVICE = device_name
        log = sys.modules.get(f'{PACKAGE.name}.engine.early_log')
        if log:
            log.forget_records()


def console(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, or list them all."""
    argv = list(sys.argv[1:] if argv is None else argv)
    commands = list_commands()
    if not argv or argv[0] in ('-h', '--help'):
        print('usage: mmdet-shufflenetv2 COMMAND [ARGUMENTS]\n')
        print(f'configs: {resource_root() / "configs"}\n')
        for name, purpose in commands.items():
            print(f'  {name:<20} {purpose}')
        return
    name, *rest = argv
    name = name.replace('-', '_')
    if name not in commands:
        sys.exit(
            f'error: COMMAND must be one of {", ".join(commands)}, '
            f'got {argv[0]!r}'
        )
    if (PACKAGE / 'cli' / f'{name}.py').is_file():
        sys.argv[0] = f'mmdet-shufflenetv2 {argv[0]}'
        main(name, rest)
    else:
        sys.argv = [str(resource_root() / 'tools' / f'{name}.py'), *rest]
        runpy.run_path(sys.argv[0], run_name='__main__')


def list_commands() -> dict[str, str]:
    """Names of the commands and the first line of each one's docstring."""
    root = resource_root()
    files = {path.stem: path for path in root.glob('tools/*.py')}
    files |= {path.stem: path for path in PACKAGE.glob('cli/*.py')}
    docs = {
        name: ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
        for name, path in sorted(files.items())
        if name not in HELPERS
    }
    return {name: doc.partition('\n')[0] for name, doc in docs.items()}


def resource_root() -> Path:
    """The folder of ``configs/`` and ``tools/``.

    A wheel carries them in the package's ``.mim`` folder; with an editable
    installation they are those of the checkout.

    Raises:
        UserError: if neither place has them.
    """
    places = (PACKAGE / '.mim', PACKAGE.parent)
    for place in places:
        if (place / 'configs').is_dir() and (place / 'tools').is_dir():
            return place
    raise UserError(
        f'configs/ and tools/ are in none of {", ".join(map(str, places))}: '
        'install mmdet_shufflenetv2 again'
    )


def locate(argument: str, root: Path) -> str:
    """A ``configs/...`` that is not in the current folder, in ``root``."""
    packaged = root / argument
    is_ours = argument.startswith('configs/') and packaged.exists()
    return (
        str(packaged) if is_ours and not Path(argument).exists() else argument
    )


def report_errors(run: Callable[[], None]) -> None:
    """Run it; show an expected error as one message, with exit code 2.

    An error of this package says by itself what is wrong, one of the
    operating system does if it names a file, and one of a config names the
    entry; anything else is a bug, and keeps its traceback.
    """
    os.environ.setdefault('LOCAL_RANK', '0')
    try:
        run()
        _leave_process_group()
    except KeyboardInterrupt as stopped:
        print(f'\n{str(stopped) or "stopped"}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)


def _message(error: Exception) -> str | None:
    """What is shown of an expected error; None for any other one."""
    if isinstance(error, UserError):
        # A data loader's process hands its whole traceback over as text.
        if 'Original Traceback' in str(error):
            marker = f'{type(error).__name__}: '
            return str(error).rpartition(marker)[2].strip()
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    if isinstance(error, FileNotFoundError):
        return str(error)
    if _is_about_the_config(error):
        told = error.args[0] if isinstance(error, KeyError) else error
        return f'in the config: {told}'
    return None


def _is_about_the_config(error: Exception) -> bool:
    """Whether an entry of the config names no class, or wrong arguments.

    mmengine's registry calls classes with what the config says: Python names
    an argument that does not exist, this package one that cannot be so.
    """
    build = sys.modules.get('mmengine.registry.build_functions')
    files = [f.filename for f in traceback.extract_tb(error.__traceback__)]
    if build is None or build.__file__ not in files:
        return False
    if files[-1] == build.__file__:
        return True
    of_an_argument = isinstance(error, ValueError) or (
        isinstance(error, TypeError) and 'keyword argument' in str(error)
    )
    return of_an_argument and files[-1].startswith(str(PACKAGE))


def _leave_process_group() -> None:
    """Its threads would abort a process that ends while they run."""
    dist = sys.modules.get('torch.distributed')
    if dist and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
