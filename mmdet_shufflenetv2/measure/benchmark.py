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

OK, NO_ROOM, NO_TIME = 'ok', 'does not fit in memory', 'no time left'
# Load beyond the benchmark's own threads from which a machine is busy.
BUSY = 1.0
# How the warning of every row of a run that only tries begins.
TRY = '--quick'
# Columns that the printed table has not, or not where the file has them.
NOT_SHOWN = {
    *('table', 'warning', 'p10_ms', 'p90_ms', 'runs', 'warmup_runs', 'map'),
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
        return ', '.join(filter(None, map(str, words)))


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
    deadline: float | None = None,
) -> list[dict[str, str]]:
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
        the rows of all benchmarks, recorded before or now. Those that there
        was no time for have a row here, and none in the file.

    Raises:
        UserError: the GPU no longer answers.
        RecordsError: the file cannot be written; told before anything is
            measured.
    """
    records.check_writable()
    # Each once, however often it was asked for.
    wanted = {repr((each.key, each.setting)): each for each in benchmarks}
    found = {
        name: [] if remeasure else _recorded(each, records, is_try)
        for name, each in wanted.items()
    }
    with tqdm(
        [name for name, rows in found.items() if not rows],
        bar_format='{percentage:3.0f}% |{bar:20}| {elapsed}<{remaining} '
        '{desc}',
        disable=None,
    ) as bar:
        for name in bar:
            each = wanted[name]
            if deadline and time.monotonic() > deadline:
                blank = dict.fromkeys(records.columns, '')
                key = {name: str(value) for name, value in each.key.items()}
                found[name] = [{**blank, **key, 'status': NO_TIME}]
            else:
                bar.set_description_str(each.label)
                found[name] = records.append(
                    _measure(each, effort, annotate, is_try)
                )
    return [row for rows in found.values() for row in rows]


def joined(*warnings: str) -> str:
    """Warnings of a row as one text, the empty ones left out."""
    return ', '.join(filter(None, warnings))


def _recorded(
    benchmark: Benchmark, records: Records, tries_count: bool
) -> list[dict[str, str]]:
    environment = describe(benchmark.setting)
    for name in CIRCUMSTANCES:
        del environment[name]
    found = records.find({**benchmark.key, **environment, 'status': OK})
    return [
        row
        for row in found
        if tries_count or not row['warning'].startswith(TRY)
    ]


def _measure(
    benchmark: Benchmark,
    effort: Effort,
    annotate: Callable[[Row], Row],
    is_try: bool,
) -> list[Row]:
    """The rows of one benchmark; of one that fails, a row that says so."""
    setting, status = benchmark.setting, OK
    room = nullcontext() if setting.on_gpu else refused_rather_than_killed()
    try:
        setting.apply()
        torch.manual_seed(0)
        watch = setting.stopwatch()
        with room:
            rows = benchmark.measure(
                partial(interleave, watch=watch, effort=effort)
            )
    except Exception as error:
        rows, status = [{}], _status_of(error, benchmark)
    if setting.on_gpu:
        torch.cuda.empty_cache()
    environment = describe(setting)
    load, busy = environment['load'], ''
    if load != '' and load > setting.threads + BUSY:
        busy = f'busy machine: load {load}'
    finished = []
    for row in rows:
        row = {**benchmark.key, **row, 'status': status, **environment}
        row['warning'] = joined(TRY * is_try, busy, row.get('warning', ''))
        if status == OK:
            row.update(annotate(row))
        finished.append(row)
    return finished


def _status_of(error: Exception, benchmark: Benchmark) -> str:
    """What a row says about a benchmark that failed, and where it did."""
    lines = str(error).strip().splitlines() or ['']
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f'({Path(last.filename).name}, line {last.lineno})'
    told = f'{type(error).__name__}: {lines[0][:200]} {where}'
    setting = benchmark.setting
    if setting.on_gpu and not _answers(setting.device):
        raise UserError(
            f'{setting.device} no longer answers; it was lost while '
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
    new: int,
    path: Path,
    notes: Sequence[str],
) -> None:
    """Print a table of rows, and what there is to say about them.

    Args:
        rows: as `run` returns them.
        columns: of the benchmarks' kind.
        new: how many rows were measured now.
        path: where they are.
        notes: what the kind says.
    """
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe nobody gains from wrapped lines.
        console = Console(width=1000)
    found = [row for row in rows if row['status'] != NO_TIME]
    varying = [
        name
        for name in ('precision', 'layout', 'mode')
        if len({row[name] for row in found}) > 1
    ]
    # The longest comes last.
    shown = [c for c in columns if c not in NOT_SHOWN] + varying + ['warning']
    table = Table(*shown, box=None, header_style='bold', pad_edge=False)
    for row in found:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    notes = [*notes]
    for row in found:
        if row['status'] != OK:
            keys = columns[: columns.index('median_ms')]
            name = joined(*(row[key] for key in keys))
            notes.append(f'not measured: {name}: {row["status"]}')
    notes.append(
        f'{new} rows measured, {len(found) - new} recorded before '
        f'(--remeasure measures them anew): {path}'
    )
    if left := len(rows) - len(found):
        notes.append(
            f'no time left for {left} cases; the same command goes on with '
            'them'
        )
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
