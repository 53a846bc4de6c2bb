"""Former place of what `mmdet_shufflenetv2.cli` has."""

import argparse

from ..cli import report_errors as reporting_errors  # noqa: F401
from ..cli.options import add_cfg_options  # noqa: F401


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Make a command's parser; its module docstring is the help."""
    return argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
