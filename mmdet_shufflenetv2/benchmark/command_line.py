"""The command lines of ``tools/benchmark.py`` and ``tools/guidelines.py``."""

import argparse
import os
import sys
from functools import partial

from mmengine.logging import MMLogger

from ..engine.command_line import make_parser, reporting_errors
from . import backbones, detectors, ops, shuffle
from . import guidelines as guidelines_command
from .command import add_common_arguments, execute

COMMANDS = {
    module.COMMAND.name: module.COMMAND
    for module in (backbones, detectors, guidelines_command, shuffle, ops)
}


def benchmark(doc: str) -> None:
    """Run a subcommand.

    Args:
        doc: what ``--help`` says first.
    """
    parser = make_parser(doc)
    subcommands = parser.add_subparsers(dest='command', required=True)
    for name, command in COMMANDS.items():
        subparser = subcommands.add_parser(
            name,
            help=command.help,
            description=f'{command.help}\n\n    python tools/benchmark.py '
            f'{name} {command.example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        add_common_arguments(subparser, command)
    args = parser.parse_args()
    reporting_errors(partial(_finish, COMMANDS[args.command], args))


def guidelines(doc: str) -> None:
    """Run the command of the guidelines."""
    parser = make_parser(doc)
    command = guidelines_command.COMMAND
    command.add_arguments(parser)
    add_common_arguments(parser, command)
    args = parser.parse_args()
    reporting_errors(partial(_finish, command, args))


def _finish(command, args: argparse.Namespace) -> None:
    # PyTorch's profiler reports each start and end on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    # Initial weights are logged one by one.
    MMLogger.get_current_instance().setLevel('ERROR')
    outcome = execute(command, args)
    if any('failed' in problem for problem in outcome.problems):
        sys.exit(1)
