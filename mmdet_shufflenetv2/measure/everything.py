"""All measurements of a machine, the most telling first.

The same command given again goes on where the budget ended.
"""

import argparse
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..engine.command_line import make_parser
from .command import (
    Command,
    add_common_arguments,
    add_run_arguments,
    execute,
    require_device,
)

# Command and arguments, in this order. A GPU's steps are short ones: it is
# often had for minutes only, and seldom disturbed.
_GPU = '--seconds 0.4'
_TABLE8 = f'{_GPU} --size 224x224 --units'
PLANS = {
    'cuda': (
        ('guidelines', f'{_GPU} --batch 8 1'),
        ('backbones', _TABLE8),
        ('detectors', f'{_GPU} --no-energy'),
        ('guidelines', f'{_GPU} --batch 8 --precision fp16'),
        ('backbones', f'{_TABLE8} --precision fp16 --mode graph --no-energy'),
        (
            'detectors',
            f'{_GPU} --precision bf16 --no-energy '
            '--part network detection "training step"',
        ),
        ('backbones', f'{_TABLE8} --mode graph --no-energy'),
        ('backbones', f'{_TABLE8} --precision fp16 --no-energy'),
        ('backbones', f'{_GPU} --no-energy'),
        ('shuffle', f'{_GPU} --precision fp32 fp16'),
        ('ops', _GPU),
    ),
    'cpu': (
        ('guidelines', ''),
        ('backbones', ''),
        ('shuffle', '--batch 1 8'),
        ('ops', ''),
        ('detectors', '--size 600x400'),
    ),
    # A try of everything, on either.
    'quick': (
        ('guidelines', 'G1 G4'),
        (
            'backbones',
            '--network shufflenet_v2_x0_5 --size 64x64 --units 28x28',
        ),
        ('shuffle', '--part stage4 --batch 1 --size 64x64'),
        ('ops', '--case train_480x360_s32 --op ps_roi_pool'),
        (
            'detectors',
            'configs/lighthead_shufflenetv2_x0_5.py --size 96x64 --batch 1',
        ),
    ),
}


@dataclass(frozen=True)
class Step:
    """A command with its arguments."""

    command: Command
    args: argparse.Namespace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('results'),
        help='folder of the CSV files; default: %(default)s',
    )
    add_run_arguments(parser)


def plan(args: argparse.Namespace, commands: dict[str, Command]) -> list[Step]:
    """The steps that the arguments ask for.

    Raises:
        UsageError: there is no such device.
    """
    args.device = require_device(args.device)
    kind = torch.device(args.device).type
    steps = []
    for name, text in PLANS['quick' if args.quick else kind]:
        command = commands[name]
        parser = make_parser(name)
        command.add_arguments(parser)
        add_common_arguments(parser, command)
        out = args.out_dir / f'{name}_{kind}.csv'
        words = [
            *shlex.split(text),
            '--device',
            args.device,
            '--out',
            str(out),
        ]
        for switch in 'quick', 'again':
            if getattr(args, switch):
                words.append(f'--{switch}')
        steps.append(Step(command, parser.parse_args(words)))
    return steps


def run_plan(steps: list[Step], budget_minutes: float | None) -> list[str]:
    """Run the steps within a time.

    Args:
        steps: what to measure, in this order.
        budget_minutes: nothing new begins after it; None for no limit.

    Returns:
        what could not be measured, a line each.

    Raises:
        UsageError: the device was lost, or a file cannot be added to.
    """
    deadline = None
    if budget_minutes is not None:
        deadline = time.monotonic() + 60 * budget_minutes
    problems, left = [], 0
    for step in steps:
        print(f'\n{step.command.help}', flush=True)
        outcome = execute(step.command, step.args, deadline)
        problems += outcome.problems
        left += len(outcome.left)
    if left:
        print(
            f'\nThe time is over with {left} measurements left; give the '
            'same command again to go on.'
        )
    return problems
