"""What a benchmark is, and a run of many.

A `Benchmark` has a key, a setting, and a function that builds competitors,
has them timed in turn and gives rows. `run` takes a list of them and appends
their rows to a CSV file. What is recorded already is not measured again, and
what fails costs itself alone.

Benchmarks of one kind come from a module beside this one, which has

    add_options(parser)         its options; types ``'size'``, ``'count'``
    benchmarks(settings, args)  what to run
    COLUMNS                     of its rows, without the environment's
    HELP, EXAMPLE               of its command
    THREADS, MODE, EFFORT       defaults; None for all cores, or no choice

and, if there is more to say than the table does, ``summary(rows)``.
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
# Load beyond the benchmark's own threads from which a machine is busy.
BUSY = 1.0
# How the warning of every row of a run that only tries begins.
TRY = '--quick'
# Columns that the printed table has not, or not where the file has them.
NOT_SHOWN = {
    *('table', 'warning', 'p10_ms', 'p90_ms', 'runs', 'warmup_runs'),
    *('rois', 'weights_mb', 'flops_m', 'paper_mflops', 'torchvision'),
}
# What options of several kinds have in common.
SIZE = dict(type='size', metavar='WIDTHxHEIGHT')
COUNTS = dict(nargs='+', type='count')
ENERGY = dict(action=argparse.BooleanOptionalAction, default=True)
Row = dict[str, object]
# Times competitors in turn: a function or a `Process` under each name.
Time = Callable[[Mapping[object, Callable[[], object]]], dict[object, Timing]]


@dataclass(frozen=True)
class Benchmark:
    """One thing to measure.

    Attributes:
        key: the columns that tell it from others.
        setting: what it is measured under.
        measure: builds the competitors, has them timed by the function that
            it is given, and returns the measured columns, a dict per row.
    """

    key: Row
    setting: Setting
    measure: Callable[[Time], Sequence[Row]]

    @property
    def label(self) -> str:
        """What the progress bar calls it."""
        words = *self.key.values(), self.setting.precision, self.setting.mode
        return joined(*map(str, words))


def joined(*words: str) -> str:
    """Words or warnings as one text, the empty ones left out."""
    return ', '.join(filter(None, words))


def size_text(size: tuple[int, int]) -> str:
    """A width and a height as options and records have them."""
    return '{}x{}'.format(*size)


def records_of(columns: Sequence[str], path: Path) -> Records:
    """The file of rows with these columns and the environment's."""
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
    """Measure what is not recorded yet, and record it at once.

    Args:
        benchmarks: what to measure, in this order.
        records: where rows are looked up and added.
        effort: how long each is timed.
        annotate: gives columns that are not measured, such as published
            figures, for the key and the environment of a row.
        remeasure: measure what is recorded, too.
        is_try: say in ``warning`` that rows are of a try; only another try
            takes them for measured.
        deadline: nothing is begun after it (`time.monotonic`).

    Returns:
        the rows recorded before or now, and how many benchmarks there was no
        time for.

    Raises:
        UserError: the GPU no longer answers.
        RecordsError: the file cannot be written; told before anything is
            measured.
    """
    records.append([])

    def recorded(each: Benchmark) -> list[dict[str, str]]:
        known = {**each.key, **describe(each.setting), 'status': OK}
        rows = records.find(
            {k: v for k, v in known.items() if k not in CIRCUMSTANCES}
        )
        return [r for r in rows if is_try or not r['warning'].startswith(TRY)]

    # Each once, however often it was asked for.
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
    """The rows of one benchmark, empty if it failed, and how it went."""
    setting = benchmark.setting
    room = nullcontext() if setting.on_gpu else refused_rather_than_killed()
    try:
        setting.apply()
        torch.manual_seed(0)
        watch = setting.stopwatch()
        with room:
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
    """What a row says about a benchmark that failed, and where it did."""
    lines = str(error).strip().splitlines() or ['']
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f'({Path(last.filename).name}, line {last.lineno})'
    told = f'{type(error).__name__}: {lines[0][:200]} {where}'
    device = benchmark.setting.device
    if benchmark.setting.on_gpu and not _answers(device):
        raise UserError(
            f'{device} no longer answers; it was lost while '
            f'{benchmark.label} was measured. The rows recorded before are '
            'safe; give the same command again to go on. The device said: '
            f'{told}'
        ) from error
    if is_out_of_memory(error):
        return NO_ROOM
    if isinstance(error, ImportError):
        return f'not available: {error}'
    return f'failed: {told}'


def _answers(device: str) -> bool:
    """Whether a GPU still computes."""
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
    """Print a table of rows, what failed of them, and notes.

    Args:
        rows: as `run` returns them.
        columns: of the benchmarks' kind.
        notes: a line each.
    """
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nobody gains from wrapped lines.
        console = Console(width=1000)
    varying = [
        name
        for name in ('precision', 'layout', 'mode')
        if len({row[name] for row in rows}) > 1
    ]
    # The longest comes last.
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
