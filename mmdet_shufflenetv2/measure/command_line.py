"""The command lines of ``tools/benchmark.py`` and ``tools/guidelines.py``."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial

from mmengine.logging import MMLogger

from ..engine.command_line import make_parser, reporting_errors
from . import backbones, detectors, everything, ops, shuffle
from . import guidelines as guidelines_command
from .command import Command, add_common_arguments, execute

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

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return subcommands.add_parser(
            name,
            help=text,
            description=f'{text}\n\n    python tools/benchmark.py {name} '
            f'{example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for name, command in COMMANDS.items():
        subparser = add(name, command.help, command.example)
        command.add_arguments(subparser)
        add_common_arguments(subparser, command)
    everything.add_arguments(
        add(
            'all',
            'everything, the most telling first',
            '--device cuda --budget-minutes 8',
        )
    )
    args = parser.parse_args()
    if args.command == 'all':
        _run(partial(_everything, args))
    else:
        _run(partial(_one, COMMANDS[args.command], args))


def guidelines(doc: str) -> None:
    """Run the command of the guidelines.

    Args:
        doc: what ``--help`` says.
    """
    parser = make_parser(doc)
    command = guidelines_command.COMMAND
    command.add_arguments(parser)
    add_common_arguments(parser, command)
    _run(partial(_one, command, parser.parse_args()))


def _one(command: Command, args: argparse.Namespace) -> list[str]:
    return execute(command, args).problems


def _everything(args: argparse.Namespace) -> list[str]:
    steps = everything.plan(args, COMMANDS)
    return everything.run_plan(steps, args.budget_minutes)


def _run(measure: Callable[[], list[str]]) -> None:
    """Run a command quietly; exit code 1 if something failed."""
    # PyTorch's profiler reports each start and end on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')

    def main() -> None:
        # Initial weights are logged one by one.
        MMLogger.get_current_instance().setLevel('ERROR')
        if any('failed' in problem for problem in measure()):
            sys.exit(1)

    reporting_errors(main)
