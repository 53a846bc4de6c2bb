"""Run one of mmdet's own tools with this package imported first.

    python -m mmdet_shufflenetv2 mmdet browse_dataset CONFIG --not-show

Without a compiled mmcv, those which import mmcv's ops before they read a
config (browse_dataset, analyze_results, confusion_matrix, test) stop at
"No module named 'mmcv._ext'" otherwise.
"""

import argparse
import runpy
import sys
from pathlib import Path

from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'tool', help="its name, such as browse_dataset, or a script's path"
    )
    parser.add_argument(
        'arguments', nargs=argparse.REMAINDER, help='what the tool is given'
    )


def run(args: argparse.Namespace) -> None:
    import mmdet

    script = Path(args.tool)
    if not script.is_file():
        root = Path(mmdet.__file__).parent / '.mim' / 'tools'
        # Of two tools of one name, the one in fewer folders: the detectors'.
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
