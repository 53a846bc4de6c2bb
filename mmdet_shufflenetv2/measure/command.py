"""What the benchmark commands share: arguments, a run, and what is shown."""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ..engine.argument_types import positive_int, positive_number
from ..engine.run_config import Interrupted, UsageError
from .environment import describe
from .records import Records
from .session import Case, DeviceLost, Outcome, run
from .setting import LAYOUTS, MODES, PRECISIONS, Setting
from .timing import CLOCKS, QUICK, Effort

Rows = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Command:
    """A kind of measurement, and its CSV file.

    Attributes:
        name: of the command and of its file.
        help: one line.
        example: how to call it, options only.
        columns: of a record, what the environment adds left out.
        shown: titles of the printed table, and the columns under them.
        cases: what the arguments ask to be measured.
        add_arguments: its own ones.
        threads: by default; None means all cores.
        modes: how networks run by default; empty if it has no choice.
        effort: for one case by default.
        summary: sentences to print below the table.
    """

    name: str
    help: str
    example: str
    columns: tuple[str, ...]
    shown: dict[str, str]
    cases: Callable[[argparse.Namespace], list[Case]]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    threads: int | None = None
    modes: tuple[str, ...] = ()
    effort: Effort = field(default_factory=Effort)
    summary: Callable[[Rows], list[str]] = lambda rows: []


def add_common_arguments(
    parser: argparse.ArgumentParser, command: Command
) -> None:
    """Add what every command knows."""
    parser.set_defaults(default_effort=command.effort, mode=['eager'])
    parser.add_argument(
        '--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu'
    )
    threads = command.threads or os.cpu_count()
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
        'channels_last otherwise',
    )
    if command.modes:
        modes = '; '.join(f'{name}: {what}' for name, what in MODES.items())
        parser.add_argument(
            '--mode',
            nargs='+',
            choices=MODES,
            default=list(command.modes),
            help=f'{modes}; default: {" ".join(command.modes)}',
        )
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu: time of all threads, for a busy machine',
    )
    add_run_arguments(parser)
    parser.add_argument(
        '--seconds',
        type=positive_number,
        default=command.effort.seconds,
        help='of timed runs for one case; default: %(default)s',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help=f'CSV file to append to; default: results/{command.name}_cpu.csv '
        'or _cuda.csv',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how far a run goes."""
    parser.add_argument(
        '--quick', action='store_true', help='a try: three runs of everything'
    )
    parser.add_argument(
        '--again', action='store_true', help='measure what is recorded, too'
    )
    parser.add_argument(
        '--budget-minutes',
        type=positive_number,
        help='begin nothing new after so long; the same command goes on',
    )


def settings(args: argparse.Namespace) -> list[Setting]:
    """The settings that the arguments ask for.

    Raises:
        UsageError: there is no such device, or a combination is impossible.
    """
    args.device = require_device(args.device)
    found = []
    for precision, mode in product(args.precision, args.mode):
        layout = args.layout
        if layout is None:
            wide = PRECISIONS[precision].dtype == torch.float32
            on_gpu = args.device != 'cpu'
            layout = 'contiguous' if wide and on_gpu else 'channels_last'
        try:
            found.append(
                Setting(
                    args.device,
                    args.threads,
                    precision,
                    layout,
                    mode,
                    args.clock,
                )
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
    return found


def effort(args: argparse.Namespace) -> Effort:
    """How long one case is measured."""
    if args.quick:
        return QUICK
    return args.default_effort._replace(seconds=args.seconds)


def require_device(device: str) -> str:
    """The device's name, ``'cpu'`` for ``'cpu:0'``.

    Raises:
        UsageError: it is not there.
    """
    try:
        kind = torch.device(device)
    except RuntimeError:
        kind = None
    if kind is None or kind.type not in ('cpu', 'cuda'):
        raise UsageError(
            f'device: cpu, cuda and cuda:N are allowed, got {device!r}'
        )
    count = torch.cuda.device_count()
    if kind.type == 'cuda' and (kind.index or 0) >= count:
        raise UsageError(
            f'device: {device} was asked for, but PyTorch finds {count} '
            'CUDA devices here; --device cpu measures the processor'
        )
    return 'cpu' if kind.type == 'cpu' else device


def records_of(command: Command, path: Path) -> Records:
    """The command's records in a file."""
    environment = tuple(describe(Setting()))
    return Records(path, (*command.columns, 'status', *environment))


def execute(
    command: Command, args: argparse.Namespace, deadline: float | None = None
) -> Outcome:
    """Measure, record, and show a table of all that was asked for.

    Args:
        command: what to measure.
        args: the parsed arguments.
        deadline: no case is begun after it (`time.monotonic`).

    Raises:
        UsageError: the arguments ask for what is not there, or the file
            cannot be added to, or the device was lost.
        Interrupted: Ctrl-C; says how to go on.
    """
    args.device = require_device(args.device)
    kind = torch.device(args.device).type
    out = args.out or Path('results') / f'{command.name}_{kind}.csv'
    records = records_of(command, out)
    if args.budget_minutes is not None:
        end = time.monotonic() + 60 * args.budget_minutes
        deadline = end if deadline is None else min(deadline, end)
    try:
        outcome = run(
            command.cases(args), records, args.again, args.quick, deadline
        )
    except DeviceLost as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt as error:
        raise Interrupted(
            f'stopped; {len(records.rows)} rows are safe in {out}, and the '
            'same command goes on from there'
        ) from error
    show(command, outcome, out)
    return outcome


def show(command: Command, outcome: Outcome, out: Path) -> None:
    """Print a table of an outcome, what went wrong, and what is left."""
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nobody gains from wrapped lines.
        console = Console(width=1000)
    table = Table(box=None, header_style='bold', pad_edge=False)
    for title in command.shown:
        table.add_column(title, no_wrap=True)
    for row in outcome.rows:
        table.add_row(*(row[name] for name in command.shown.values()))
    console.print(table)
    notes = [
        *command.summary(outcome.rows),
        *(f'not measured: {problem}' for problem in outcome.problems),
        f'{outcome.measured} measured, {outcome.found} recorded before '
        f'(--again measures them anew): {out}',
    ]
    if outcome.left:
        notes.append(
            f'no time left for {len(outcome.left)} cases; the same command '
            'goes on with them'
        )
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
