"""Measure speed on this machine and compare it with the paper.

    python tools/benchmark.py backbones --size 224x224
    python tools/benchmark.py detectors --device cuda
    python tools/benchmark.py all --device cuda --budget-minutes 8

Competitors run interleaved in one process. Ratios are ratios of medians, given
with the spread of the ratios of single rounds. Each measurement is immediately
written as a row of a CSV file in results/, and the same command continues
where it stopped. On a busy machine, ``--threads 1 --clock cpu`` still measures
the work done.
"""

import argparse
import math
import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import torch

from ..engine.early_log import quiet_log
from ..errors import Interrupted
from ..measure import (
    backbones,
    deploy,
    detectors,
    guidelines,
    ops,
    setting,
    shuffle,
)
from ..measure import benchmark as benchmarks
from ..measure.published import annotate
from ..measure.timing import QUICK
from ..paper.claims import guideline_lines
from .options import image_size, positive_int, positive_number

KINDS = {
    'backbones': backbones,
    'detectors': detectors,
    'guidelines': guidelines,
    'shuffle': shuffle,
    'ops': ops,
    'deploy': deploy,
}

# What `all` measures, the most informative first. Steps on a GPU are short: it
# is often available for minutes only, and its timings are rarely disturbed.
_GPU = '--seconds 0.4'
_TABLE8 = f'{_GPU} --size 224x224 --units'
PLANS = {
    'cuda': f"""
        guidelines {_GPU} --batch 8 1
        backbones {_TABLE8}
        detectors {_GPU} --no-energy
        guidelines {_GPU} --batch 8 --precision fp16
        backbones {_TABLE8} --precision fp16 --mode graph --no-energy
        detectors {_GPU} --precision bf16 --no-energy \
            --part network detection "training step"
        backbones {_TABLE8} --mode graph --no-energy
        backbones {_TABLE8} --precision fp16 --no-energy
        backbones {_GPU} --no-energy
        shuffle {_GPU} --precision fp32 fp16
        ops {_GPU}
    """,
    'cpu': """
        guidelines
        backbones --size 224x224
        detectors --part network post-processing
        ops
        shuffle --batch 1 8
        backbones
        detectors
        deploy
    """,
    # A quick run of everything, on any device.
    'quick': """
        guidelines G1 G4
        backbones --network shufflenet_v2_x0_5 --size 64x64 --units 28x28
        shuffle --part stage4 --batch 1 --size 64x64
        ops --case train_480x360_s32 --op ps_roi_pool
        detectors configs/lighthead_shufflenetv2_x0_5.py --size 96x64 --batch 1
    """,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest='command', required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        command = f'python tools/benchmark.py {name} {example}'
        return subparsers.add_parser(
            name,
            help=text,
            description=f'{text}\n\n    {command}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for name, kind in KINDS.items():
        add_options(add(name, kind.HELP, kind.EXAMPLE), name)
    text = 'everything, the most informative first'
    everything = add('all', text, '--device cuda --budget-minutes 8')
    everything.add_argument('--device', default='cpu', help='default: cpu')
    text = 'folder of the CSV files; default: %(default)s'
    folder = dict(type=Path, default=Path('results'))
    everything.add_argument('--out-dir', **folder, help=text)
    _add_run_options(everything)


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of one of `KINDS`, including the shared ones."""
    kind, add = KINDS[name], parser.add_argument
    parser.register('type', 'size', image_size)
    parser.register('type', 'count', positive_int)
    kind.add_options(parser)
    setting.add_options(parser, kind.THREADS, kind.MODE)
    _add_run_options(parser)
    text = 'duration of the timed runs of each case; default: %(default)s'
    seconds = kind.EFFORT.seconds
    add('--seconds', type=positive_number, default=seconds, help=text)
    text = f'default: results/{name}_cpu.csv or results/{name}_cuda.csv'
    add('--out', type=Path, help=f'CSV file to append to; {text}')


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add, flag = parser.add_argument, dict(action='store_true')
    add('--quick', **flag, help='only three runs of everything, as a test')
    text = 'also measure what is already recorded'
    add('--remeasure', '--again', **flag, help=text)
    text = 'start nothing new after this time; the same command continues'
    add('--budget-minutes', type=positive_number, help=text)


def run(args: argparse.Namespace) -> None:
    """Measure, record and show; exit code 1 if a measurement failed."""
    args.device = setting.require_device(args.device)
    # Silence the messages of PyTorch's profiler, also in child processes.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')
    deadline = time.monotonic() + 60 * (args.budget_minutes or math.inf)
    steps = [args]
    if args.command == 'all':
        kind = torch.device(args.device).type
        steps = plan(PLANS['quick' if args.quick else kind], args.device)
        for step in steps:
            step.out = args.out_dir / f'{step.command}_{kind}.csv'
            step.quick, step.remeasure = args.quick, args.remeasure
    left, failed = 0, False
    for step in steps:
        if args.command == 'all':
            print(f'\n{KINDS[step.command].HELP}', flush=True)
        rows, unmeasured = _run(step, deadline)
        left += unmeasured
        failed |= any(row['status'].startswith('failed') for row in rows)
    if left:
        print(
            f'\nTime is up with {left} measurements left; run the same '
            'command again to continue.'
        )
    if failed:
        sys.exit(1)


def plan(lines: str, device: str) -> list[argparse.Namespace]:
    """Parse each line of a plan as if it had been given as a command."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return [
        parser.parse_args([*shlex.split(line), '--device', device])
        for line in lines.strip().splitlines()
    ]


@quiet_log('ERROR')
def _run(
    args: argparse.Namespace, deadline: float
) -> tuple[list[dict[str, str]], int]:
    """Measure and record one of `KINDS`, then show the requested rows."""
    name, kind = args.command, KINDS[args.command]
    device = torch.device(args.device).type
    out = args.out or Path('results') / f'{name}_{device}.csv'
    records = benchmarks.records_of(kind.COLUMNS, out)
    before = len(records.rows)
    effort = kind.EFFORT._replace(seconds=args.seconds)
    effort = QUICK if args.quick else effort
    wanted = kind.benchmarks(setting.settings_of(args), args)
    each = effort.seconds + effort.warmup_seconds
    each += getattr(kind, 'SETUP_SECONDS', 1)
    minutes = math.ceil(len(wanted) * each / 60)
    print(f'{len(wanted)} cases, about {minutes} minutes if all are new')
    try:
        rows, left = benchmarks.run(
            wanted,
            records,
            effort,
            annotate=partial(annotate, name),
            remeasure=args.remeasure,
            is_try=args.quick,
            deadline=deadline,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            f'stopped; {len(records.rows)} rows are saved in {out}, and the '
            'same command continues from there'
        ) from error
    new = len(records.rows) - before
    notes = [
        f'{new} rows measured, {len(rows) - new} already recorded '
        f'(measure them again with --remeasure): {out}'
    ]
    if name == 'guidelines':
        measured = [row for row in rows if row['status'] == benchmarks.OK]
        notes = [*guideline_lines(measured), *notes]
    benchmarks.show(rows, kind.COLUMNS, notes)
    return rows, left
