"""Run one of mmdet's own tools with this package imported first.

    python -m mmdet_shufflenetv2 mmdet browse_dataset CONFIG --not-show

Without a compiled mmcv, tools that import mmcv's ops before they read a config
(browse_dataset, analyze_results, confusion_matrix, test) would otherwise stop
with "No module named 'mmcv._ext'".
"""

import argparse
import runpy
import sys
from pathlib import Path

from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'tool', help='name, such as browse_dataset, or path of a script'
    )
    parser.add_argument(
        'arguments', nargs=argparse.REMAINDER, help='arguments of the tool'
    )


def run(args: argparse.Namespace) -> None:
    import mmdet

    script = Path(args.tool)
    if not script.is_file():
        root = Path(mmdet.__file__).parent / '.mim' / 'tools'
        # If two tools share a name, take the less nested: the detectors' one.
        paths = sorted(root.rglob('*.py'), key=lambda p: (-len(p.parts), p))
        tools = {path.stem: path for path in paths}
        if script.stem not in tools:
            raise UserError(
                f'TOOL: expected one of {", ".join(tools)}, got {args.tool!r}'
            )
        script = tools[script.stem]
    sys.argv = [str(script), *args.arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name='__main__')
