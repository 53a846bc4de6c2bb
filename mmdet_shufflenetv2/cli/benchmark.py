"""Measure speed on this machine, beside the paper's figures.

    python tools/benchmark.py backbones --size 224x224
    python tools/benchmark.py detectors --device cuda
    python tools/benchmark.py all --device cuda --budget-minutes 8

Competitors run in turn in one process; a ratio is of medians, with the
spread of the rounds' own ratios. Each measurement becomes a row of a CSV file
in results/ at once, and a command that is given again goes on where it
stopped. On a busy machine ``--threads 1 --clock cpu`` still tells the work
that is done.
"""

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ..engine.early_log import quiet_log
from ..errors import Interrupted, UserError
from ..measure import (
    backbones,
    deploy,
    detectors,
    guidelines,
    ops,
    shuffle,
)
from ..measure.benchmark import NO_TIME, OK, records_of
from ..measure.benchmark import run as run_benchmarks
from ..measure.setting import (
    LAYOUTS,
    MODES,
    PRECISIONS,
    Setting,
    require_device,
)
from ..measure.timing import CLOCKS, QUICK
from ..paper.published import annotate
from .options import image_size, positive_int, positive_number

EXPERIMENTS = {
    'backbones': backbones,
    'detectors': detectors,
    'guidelines': guidelines,
    'shuffle': shuffle,
    'ops': ops,
    'deploy': deploy,
}


def _texts(sizes: Sequence[tuple[int, int]]) -> str:
    return ' '.join('{}x{}'.format(*size) for size in sizes)


def _guideline(text: str) -> str:
    if text not in guidelines.TABLES:
        raise argparse.ArgumentTypeError(
            f'expected one of {", ".join(guidelines.TABLES)}, got {text!r}'
        )
    return text


_SIZE = dict(type=image_size, metavar='WIDTHxHEIGHT')
_BATCH = dict(nargs='+', type=positive_int)
_ENERGY = dict(action=argparse.BooleanOptionalAction, default=True)
# Each experiment's own options, by the names of its `benchmarks`' arguments.
OPTIONS = {
    'backbones': {
        '--size': dict(
            **_SIZE,
            nargs='+',
            default=list(backbones.SIZES),
            help="224x224 means each network's own, as in Table 8; default: "
            + _texts(backbones.SIZES),
        ),
        '--batch': dict(**_BATCH, help="default: the paper's"),
        '--network': dict(
            nargs='+',
            metavar='NAME',
            help='published names, such as shufflenet_v2_x1_0; default: '
            'those of Table 8 and, at other sizes, of Table 1 of the appendix',
        ),
        '--units': dict(
            **_SIZE,
            nargs='*',
            default=list(backbones.UNIT_SIZES),
            help='maps that ten units are stacked on, as in Table 1b of the '
            'appendix; nothing after it: none; default: '
            + _texts(backbones.UNIT_SIZES),
        ),
        '--energy': dict(
            **_ENERGY, help='a second per network on a GPU that counts it'
        ),
    },
    'detectors': {
        'configs': dict(
            nargs='*',
            metavar='CONFIG',
            help='default: configs/lighthead_*.py',
        ),
        '--size': dict(
            **_SIZE,
            help="of the resized image; default: the paper's, "
            f'{_texts([detectors.PAPER_SIZE])}, on a CPU '
            f'{_texts([detectors.CPU_SIZE])}',
        ),
        '--batch': dict(
            **_BATCH,
            default=[detectors.PAPER_BATCH],
            help="default: the paper's, 4",
        ),
        '--part': dict(
            nargs='+',
            choices=detectors.PARTS,
            default=list(detectors.PARTS),
            help='default: all',
        ),
        '--energy': dict(
            **_ENERGY, help='a second per part on a GPU that counts it'
        ),
    },
    'guidelines': {
        'guidelines': dict(
            nargs='*',
            type=_guideline,
            metavar='GUIDELINE',
            help=f'{" ".join(guidelines.TABLES)}; default: all',
        ),
        '--batch': dict(**_BATCH, help='default: 1; on a GPU 8 and 1'),
        '--platform': dict(
            choices=('gpu', 'arm'),
            help="whose channels; default: the paper's for such a device",
        ),
    },
    'shuffle': {
        '--part': dict(
            nargs='+', choices=shuffle.PARTS, default=shuffle.PARTS
        ),
        '--batch': dict(**_BATCH, default=[8], help='default: 8'),
        '--size': dict(
            **_SIZE,
            default=(224, 224),
            help='of the image; default: 224x224',
        ),
    },
    'ops': {
        '--case': dict(nargs='+', choices=ops.CASES, default=list(ops.CASES)),
        '--op': dict(nargs='+', choices=ops.OPS, default=list(ops.OPS)),
    },
    'deploy': {
        '--case': dict(
            nargs='+', choices=deploy.CASES, default=list(deploy.CASES)
        ),
        '--against': dict(
            nargs='+',
            default=[],
            metavar='FILE.onnx',
            help='networks that small exported detectors are compared with',
        ),
        '--int8': dict(
            nargs=2,
            metavar=('FP32.onnx', 'INT8.onnx'),
            help='one detector in both precisions',
        ),
        '--size': dict(**_SIZE, help="of all images; default: each case's"),
        '--batch': dict(
            type=positive_int, default=8, help='of the training step'
        ),
    },
}

# Columns that the printed table has not, or not where the file has them.
NOT_SHOWN = (
    'table',
    'warning',
    'p10_ms',
    'p90_ms',
    'runs',
    'warmup_runs',
    'map',
    'rois',
    'weights_mb',
    'flops_m',
    'paper_mflops',
    'torchvision',
)

# What `all` measures, the most telling first. A GPU's steps are short ones:
# it is often had for minutes only, and seldom disturbed.
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
    # A try of everything, on either.
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
        return subparsers.add_parser(
            name,
            help=text,
            description=f'{text}\n\n    python tools/benchmark.py {name} '
            f'{example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for name, experiment in EXPERIMENTS.items():
        add_options(add(name, experiment.HELP, experiment.EXAMPLE), name)
    everything = add(
        'all',
        'everything, the most telling first',
        '--device cuda --budget-minutes 8',
    )
    everything.add_argument('--device', default='cpu', help='default: cpu')
    everything.add_argument(
        '--out-dir',
        type=Path,
        default=Path('results'),
        help='folder of the CSV files; default: %(default)s',
    )
    _add_run_options(everything)


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add an experiment's own options and those of all."""
    experiment = EXPERIMENTS[name]
    for option, details in OPTIONS[name].items():
        parser.add_argument(option, **details)
    parser.add_argument(
        '--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu'
    )
    threads = experiment.THREADS or os.cpu_count()
    parser.add_argument(
        '--threads',
        type=positive_int,
        default=threads,
        help=f'CPU threads; default: {threads}',
    )
    parser.add_argument(
        '--precision',
        nargs='+',
        choices=PRECISIONS,
        default=['fp32'],
        help='default: fp32, TF32 off',
    )
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        help='of maps in memory; default: contiguous for 32 bits on a GPU, '
        'channels_last otherwise; ops: both',
    )
    if experiment.MODE:
        modes = '; '.join(f'{mode}: {what}' for mode, what in MODES.items())
        parser.add_argument(
            '--mode',
            nargs='+',
            choices=MODES,
            default=[experiment.MODE],
            help=f'{modes}; default: {experiment.MODE}',
        )
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu: time of all threads, for a busy machine',
    )
    _add_run_options(parser)
    parser.add_argument(
        '--seconds',
        type=positive_number,
        default=experiment.EFFORT.seconds,
        help='of timed runs for one case; default: %(default)s',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help=f'CSV file to append to; default: results/{name}_cpu.csv or '
        '_cuda.csv',
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--quick', action='store_true', help='a try: three runs of everything'
    )
    parser.add_argument(
        '--remeasure',
        '--again',
        action='store_true',
        help='measure what is recorded, too',
    )
    parser.add_argument(
        '--budget-minutes',
        type=positive_number,
        help='begin nothing new after so long; the same command goes on',
    )


def run(args: argparse.Namespace) -> None:
    """Measure, record and show; exit code 1 if something failed."""
    if args.command != 'all':
        rows = run_experiment(args.command, args)
    else:
        rows = _run_all(args)
    if any(row['status'].startswith('failed') for row in rows):
        sys.exit(1)


def _run_all(args: argparse.Namespace) -> list[dict[str, str]]:
    """All steps of the device's plan, within one budget of time."""
    require_device(args.device)
    kind = torch.device(args.device).type
    deadline = _deadline(args)
    rows = []
    for step in plan('quick' if args.quick else kind, args.device):
        for name in 'quick', 'remeasure':
            setattr(step, name, getattr(args, name))
        step.out = args.out_dir / f'{step.command}_{kind}.csv'
        print(f'\n{EXPERIMENTS[step.command].HELP}', flush=True)
        rows += run_experiment(step.command, step, deadline)
    left = sum(row['status'] == NO_TIME for row in rows)
    if left:
        print(
            f'\nThe time is over with {left} measurements left; give the '
            'same command again to go on.'
        )
    return rows


def plan(name: str, device: str) -> list[argparse.Namespace]:
    """The steps of a plan, as if each had been given as a command."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return [
        parser.parse_args([*shlex.split(line), '--device', device])
        for line in PLANS[name].strip().splitlines()
    ]


@quiet_log('ERROR')
def run_experiment(
    name: str, args: argparse.Namespace, deadline: float | None = None
) -> list[dict[str, str]]:
    """Measure, record, and show a table of all that was asked for.

    Args:
        name: of `EXPERIMENTS`.
        args: the parsed arguments.
        deadline: nothing is begun after it (`time.monotonic`).

    Raises:
        UserError: the arguments ask for what is not there, or the file
            cannot be added to, or the device was lost.
        Interrupted: Ctrl-C; says how to go on.
    """
    # PyTorch's profiler reports each start and end.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    experiment = EXPERIMENTS[name]
    args.device = require_device(args.device)
    kind = torch.device(args.device).type
    out = args.out or Path('results') / f'{name}_{kind}.csv'
    records = records_of(experiment.COLUMNS, out)
    before = len(records.rows)
    options = {
        option.lstrip('-'): getattr(args, option.lstrip('-'))
        for option in OPTIONS[name]
    }
    if name == 'ops':
        options['layout'] = args.layout
    effort = experiment.EFFORT._replace(seconds=args.seconds)
    effort = QUICK if args.quick else effort
    wanted = experiment.benchmarks(settings(args), **options)
    each = effort.seconds + effort.warmup_seconds
    each += getattr(experiment, 'SETUP_SECONDS', 1)
    minutes = math.ceil(len(wanted) * each / 60)
    print(f'{len(wanted)} cases, about {minutes} minutes if all are new')
    try:
        rows = run_benchmarks(
            wanted,
            records,
            effort,
            annotate=partial(annotate, name),
            remeasure=args.remeasure,
            is_try=args.quick,
            deadline=deadline or _deadline(args),
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            f'stopped; {len(records.rows)} rows are safe in {out}, and the '
            'same command goes on from there'
        ) from error
    _show(experiment, rows, len(records.rows) - before, out)
    return rows


def _deadline(args: argparse.Namespace) -> float | None:
    minutes = args.budget_minutes
    return None if minutes is None else time.monotonic() + 60 * minutes


def settings(args: argparse.Namespace) -> list[Setting]:
    """The settings that the arguments ask for.

    Raises:
        UserError: a combination is impossible.
    """
    on_gpu = torch.device(args.device).type == 'cuda'
    found = []
    for precision, mode in product(
        args.precision, getattr(args, 'mode', ['eager'])
    ):
        wide = PRECISIONS[precision].dtype == torch.float32
        default = 'contiguous' if wide and on_gpu else 'channels_last'
        try:
            found.append(
                Setting(
                    args.device,
                    args.threads,
                    precision,
                    args.layout or default,
                    mode,
                    args.clock,
                )
            )
        except ValueError as error:
            raise UserError(str(error)) from error
    return found


def _show(experiment, rows: list[dict[str, str]], new: int, out: Path) -> None:
    """Print a table of rows, what went wrong, and what is left."""
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nobody gains from wrapped lines.
        console = Console(width=1000)
    shown = [row for row in rows if row['status'] != NO_TIME]
    varying = [
        name
        for name in ('precision', 'layout', 'mode')
        if len({row[name] for row in shown}) > 1
    ]
    columns = [c for c in experiment.COLUMNS if c not in NOT_SHOWN]
    # The longest comes last.
    columns = [*columns, *varying, 'warning']
    table = Table(*columns, box=None, header_style='bold', pad_edge=False)
    for row in shown:
        table.add_row(*(row[name] for name in columns))
    console.print(table)
    notes = []
    if hasattr(experiment, 'summary'):
        notes += experiment.summary(rows)
    keys = experiment.COLUMNS[: experiment.COLUMNS.index('median_ms')]
    for row in shown:
        if row['status'] != OK:
            name = ', '.join(filter(None, (row[key] for key in keys)))
            notes.append(f'not measured: {name}: {row["status"]}')
    notes.append(
        f'{new} rows measured, {len(shown) - new} recorded before '
        f'(--remeasure measures them anew): {out}'
    )
    if left := len(rows) - len(shown):
        notes.append(
            f'no time left for {left} cases; the same command goes on with '
            'them'
        )
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
