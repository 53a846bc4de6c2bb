"""Run benchmarks and record their results.

A `Benchmark` has a key, a setting, and a function that builds competitors,
times them in turn and returns rows. `run` takes a list of benchmarks and
appends their rows to a CSV file. It skips what is already recorded, and a
benchmark that fails does not stop the others.

Each kind of benchmark is a sibling module that defines

    add_options(parser)         add its options (types 'size' and 'count')
    benchmarks(settings, args)  return the benchmarks to run
    COLUMNS                     columns of its rows, without the environment
    HELP, EXAMPLE               help text and example arguments
    THREADS, MODE, EFFORT       defaults; None: all cores, no choice of mode
"""

import argparse
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from ..errors import UserError
from .memory import is_out_of_memory, refused_rather_than_killed
from .records import Records
from .setting import CIRCUMSTANCES, Setting, describe
from .timing import Effort, Timing, interleave

OK, NO_ROOM = 'ok', 'does not fit in memory'
# A machine is busy if its load exceeds the benchmark's threads by this much.
BUSY = 1.0
# The warning of every row of a trial run starts with this.
TRY = '--quick'
# Columns that the printed table leaves out or moves to its end.
NOT_SHOWN = {
    *('table', 'warning', 'p10_ms', 'p90_ms', 'runs', 'warmup_runs'),
    *('rois', 'weights_mb', 'flops_m', 'paper_mflops', 'torchvision'),
}
# Arguments for `add_argument` that several kinds share.
SIZE = dict(type='size', metavar='WIDTHxHEIGHT')
COUNTS = dict(nargs='+', type='count')
ENERGY = dict(action=argparse.BooleanOptionalAction, default=True)
Row = dict[str, object]
# Times named competitors (functions or `Process` objects) in turn.
Time = Callable[[Mapping[object, Callable[[], object]]], dict[object, Timing]]


@dataclass(frozen=True)
class Benchmark:
    """One thing to measure.

    Attributes:
        key: the columns that identify it.
        setting: the setting it is measured under.
        measure: builds the competitors, times them with the function it is
            given, and returns the measured columns, a dict per row.
    """

    key: Row
    setting: Setting
    measure: Callable[[Time], Sequence[Row]]

    @property
    def label(self) -> str:
        """Its name in the progress bar."""
        words = *self.key.values(), self.setting.precision, self.setting.mode
        return joined(*map(str, words))


def joined(*words: str) -> str:
    """Join the non-empty words or warnings with commas."""
    return ', '.join(filter(None, words))


def size_text(size: tuple[int, int]) -> str:
    """Format (width, height) as in options and records: WIDTHxHEIGHT."""
    return '{}x{}'.format(*size)


def records_of(columns: Sequence[str], path: Path) -> Records:
    """Open a file of records with these columns plus the environment's."""
    return Records(path, (*columns, 'status', *describe(Setting())))


def run(
    benchmarks: Iterable[Benchmark],
    records: Records,
    effort: Effort,
    *,
    annotate: Callable[[Row], Row] = lambda row: {},
    remeasure: bool = False,
    is_try: bool = False,
    deadline: float = math.inf,
) -> tuple[list[dict[str, str]], int]:
    """Measure what is not recorded yet, and record each row immediately.

    Args:
        benchmarks: what to measure, in this order.
        records: where rows are looked up and added.
        effort: how long each is timed.
        annotate: returns a row's columns that are not measured, such as
            published figures.
        remeasure: also measure what is already recorded.
        is_try: mark rows as a trial in ``warning``; only another trial
            accepts them as measured.
        deadline: start nothing after this time (`time.monotonic`).

    Returns:
        the rows, recorded earlier or now, and the number of benchmarks left
        unmeasured at the deadline.

    Raises:
        UserError: the GPU no longer responds.
        RecordsError: the file cannot be written. This is checked before
            anything is measured.
    """
    records.append([])

    def recorded(each: Benchmark) -> list[dict[str, str]]:
        known = {**each.key, **describe(each.setting), 'status': OK}
        rows = records.find(
            {k: v for k, v in known.items() if k not in CIRCUMSTANCES}
        )
        return [r for r in rows if is_try or not r['warning'].startswith(TRY)]

    # Requests may repeat; each benchmark runs once.
    wanted = {repr((each.key, each.setting)): each for each in benchmarks}
    found = {
        name: [] if remeasure else recorded(each)
        for name, each in wanted.items()
    }
    new = [name for name, rows in found.items() if not rows]
    bar_format = '{percentage:3.0f}% |{bar:20}| {elapsed}<{remaining} {desc}'
    with tqdm(new, bar_format=bar_format, disable=None) as bar:
        for name in bar:
            if time.monotonic() > deadline:
                break
            each = wanted[name]
            bar.set_description_str(each.label)
            rows, status = _measure(each, effort)
            environment = {'status': status, **describe(each.setting)}
            load, busy = environment['load'], ''
            if load != '' and load > each.setting.threads + BUSY:
                busy = f'busy machine: load {load}'
            finished = []
            for row in rows:
                row = {**each.key, **row, **environment}
                warnings = TRY * is_try, busy, row.get('warning', '')
                row['warning'] = joined(*warnings)
                finished.append(row | (annotate(row) if status == OK else {}))
            found[name] = records.append(finished)
    left = sum(not rows for rows in found.values())
    return [row for rows in found.values() for row in rows], left


def _measure(
    benchmark: Benchmark, effort: Effort
) -> tuple[Sequence[Row], str]:
    """Return a benchmark's rows (one empty row if it failed) and status."""
    setting = benchmark.setting
    limit = nullcontext() if setting.on_gpu else refused_rather_than_killed()
    try:
        setting.apply()
        torch.manual_seed(0)
        watch = setting.stopwatch()
        with limit:
            rows = benchmark.measure(
                partial(interleave, watch=watch, effort=effort)
            )
        return rows, OK
    except Exception as error:
        return [{}], _status_of(error, benchmark)
    finally:
        if setting.on_gpu:
            torch.cuda.empty_cache()


def _status_of(error: Exception, benchmark: Benchmark) -> str:
    """Describe for a row why, and at which line, a benchmark failed."""
    lines = str(error).strip().splitlines() or ['']
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f'({Path(last.filename).name}, line {last.lineno})'
    reason = f'{type(error).__name__}: {lines[0][:200]} {where}'
    device = benchmark.setting.device
    if benchmark.setting.on_gpu and not _responds(device):
        raise UserError(
            f'{device} no longer responds; it was lost while measuring '
            f'{benchmark.label}. All earlier rows are saved; repeat the '
            f'command to continue. The error was: {reason}'
        ) from error
    if is_out_of_memory(error):
        return NO_ROOM
    if isinstance(error, ImportError):
        return f'not available: {error}'
    return f'failed: {reason}'


def _responds(device: str) -> bool:
    """Whether a GPU can still compute."""
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


def show(
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    notes: Iterable[str],
) -> None:
    """Print a table of rows, then the failures, then notes.

    Args:
        rows: as `run` returns them.
        columns: ``COLUMNS`` of the kind of benchmark.
        notes: lines to print last.
    """
    console = Console()
    if not console.is_terminal:
        # Do not wrap lines in a file or a pipe.
        console = Console(width=1000)
    varying = [
        name
        for name in ('precision', 'layout', 'mode')
        if len({row[name] for row in rows}) > 1
    ]
    # Warnings are the longest cells, so they come last.
    shown = [c for c in columns if c not in NOT_SHOWN] + varying + ['warning']
    table = Table(*shown, box=None, header_style='bold', pad_edge=False)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    keys = columns[: columns.index('median_ms')]
    failed = [
        f'not measured: {joined(*map(row.get, keys))}: {row["status"]}'
        for row in rows
        if row['status'] != OK
    ]
    for note in (*failed, *notes):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
