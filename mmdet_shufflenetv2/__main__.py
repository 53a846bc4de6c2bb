"""The tools, for those who have the package and no checkout.

``python -m mmdet_shufflenetv2``, or ``mmdet-shufflenetv2`` where the package
is installed, says where configs and tools are;
``python -m mmdet_shufflenetv2 train ARGUMENTS`` is ``python tools/train.py
ARGUMENTS``. An argument such as ``configs/lighthead_shufflenetv2.py`` means
the file in the current folder or, without one, the package's own.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from . import cli


def resource_root() -> Path:
    """The folder that holds ``configs/`` and ``tools/``.

    A wheel carries them in the package's ``.mim`` folder; with an editable
    installation they are those of the checkout.

    Raises:
        FileNotFoundError: if neither place has them.
    """
    package = Path(__file__).resolve().parent
    places = (package / '.mim', package.parent)
    for place in places:
        if (place / 'configs').is_dir() and (place / 'tools').is_dir():
            return place
    raise FileNotFoundError(
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


def main(arguments: list[str] | None = None) -> None:
    """Run a tool by its name; without arguments list what there is.

    Args:
        arguments: those of this process by default.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    root = resource_root()
    tools = {path.stem: path for path in sorted(root.glob('tools/*.py'))}
    if not arguments or arguments[0] in ('-h', '--help'):
        print(f'configs: {root / "configs"}')
        print(f'tools:   {root / "tools"}')
        print('usage:   python -m mmdet_shufflenetv2 TOOL [ARGUMENTS]')
        print(f'TOOL:    {" ".join(tools)}')
        return
    name, *rest = arguments
    command = name.replace('-', '_')
    if name not in tools and find_spec(f'{__package__}.cli.{command}'):
        cli.main(command, rest)
        return
    if name not in tools:
        sys.exit(f'TOOL must be one of {", ".join(tools)}, got {name!r}')
    sys.argv = [str(tools[name]), *(locate(each, root) for each in rest)]
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
