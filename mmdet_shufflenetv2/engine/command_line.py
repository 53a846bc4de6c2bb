"""Former place of what `mmdet_shufflenetv2.cli` has."""

import argparse
from collections.abc import Callable

from ..cli import report_errors
from ..cli.options import add_cfg_options  # noqa: F401
from ..compat import apply_tool_patches


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Make a command's parser; its module docstring is the help."""
    return argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def reporting_errors(main: Callable[[], None]) -> None:
    """Run a command; show an expected error as one message, exit code 2."""
    apply_tool_patches()
    report_errors(main)
