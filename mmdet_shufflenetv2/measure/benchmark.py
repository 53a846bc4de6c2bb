"""What a measurement is, and a run of many.

A `Benchmark` has a key, competitors and a way to make rows of their times.
`run` takes a list of them: it times the competitors of one in turn, adds its
rows to a CSV file, and goes on with the next. What is recorded already is not
measured again, and what fails costs itself alone.

An experiment is a module beside this one. It has

    benchmarks(settings, ...)   what to run
    COLUMNS                     of its rows, without the environment's
    HELP, EXAMPLE               of its command
    THREADS, MODE, EFFORT       defaults; None for all cores, or no choice

and, if there is more to say than the table does, ``summary(rows)``.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import UserError
from .environment import CIRCUMSTANCES, describe
from .memory import is_out_of_memory, refused_rather_than_killed
from .records import Records
from .setting import Setting
from .timing import Effort, Timing, interleave

OK, NO_ROOM, NO_TIME = 'ok', 'does not fit in memory', 'no time left'
# Load beyond the benchmark's own threads from which a machine is busy.
BUSY = 1.0
# How the warning of every row of a run that only tries begins.
TRY = '--quick'
Row = dict[str, object]
# Times competitors in turn: a function or a `Process` under each name.
Time = Callable[[Mapping[str, Callable[[], object]]], dict[str, Timing]]


class DeviceLost(UserError):
    """The device stopped working in the middle of a run."""


@dataclass(frozen=True)
class Benchmark:
    """One thing to measure.

    Attributes:
        key: the columns that tell it from others.
        setting: what it is measured under.
        measure: builds the competitors, has them timed by the function that
            it is given, and returns the measured columns, a dict per row.
        label: what the progress bar calls it.
        cost: how long it takes, in units of the quickest one.
    """

    key: Row
    setting: Setting
    measure: Callable[[Time], Sequence[Row]]
    label: str
    cost: float = 1.0


def records_of(columns: Sequence[str], path: Path) -> Records:
    """The file of an experiment's rows."""
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
    quiet: bool = False,
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
        quiet: show no progress bar.

    Returns:
        the rows of all benchmarks, recorded before or now. Those that there
        was no time for have a row here, and none in the file.

    Raises:
        DeviceLost: the GPU no longer answers.
        RecordsError: the file cannot be written; told before anything is
            measured.
    """
    records.check_writable()
    # Each once, however often it was asked for.
    wanted = {repr((b.key, b.setting)): b for b in benchmarks}.values()
    known = [
        [] if remeasure else _recorded(each, records, is_try)
        for each in wanted
    ]
    pairs = list(zip(wanted, known, strict=True))
    cost = sum(each.cost for each, rows in pairs if not rows)
    found = []
    with tqdm(
        total=cost,
        bar_format='{percentage:3.0f}% |{bar:20}| {elapsed}<{remaining} '
        '{desc}',
        disable=quiet or not cost,
    ) as bar:
        for each, rows in pairs:
            if not rows and deadline and time.monotonic() > deadline:
                blank = dict.fromkeys(records.columns, '')
                key = {name: str(value) for name, value in each.key.items()}
                rows = [{**blank, **key, 'status': NO_TIME}]
            elif not rows:
                bar.set_description_str(each.label)
                rows = records.append(
                    _measure(each, records, effort, annotate, is_try)
                )
                bar.update(each.cost)
            found += rows
        bar.set_description_str('')
    return found


def is_of_try(row: Mapping[str, str]) -> bool:
    """Whether a row is of a run that only tried."""
    return row['warning'].startswith(TRY)


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
    return [row for row in found if tries_count or not is_of_try(row)]


def _measure(
    benchmark: Benchmark,
    records: Records,
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
        status = _status_of(error, benchmark, records)
        rows = [{}]
    if setting.on_gpu:
        torch.cuda.empty_cache()
    environment = describe(setting)
    load = environment['load']
    busy = ''
    if load != '' and load > setting.threads + BUSY:
        busy = f'busy machine: load {load}'
    finished = []
    for row in rows:
        row = {
            **dict.fromkeys(records.columns[1:], ''),
            **benchmark.key,
            **row,
            'status': status,
            **environment,
        }
        row['warning'] = joined(TRY * is_try, busy, str(row['warning']))
        if status == OK:
            row.update(annotate(row))
        finished.append(row)
    return finished


def _status_of(
    error: Exception, benchmark: Benchmark, records: Records
) -> str:
    """What a row says about a benchmark that failed."""
    setting = benchmark.setting
    if setting.on_gpu and not _answers(setting.device):
        raise DeviceLost(
            f'{setting.device} no longer answers; it was lost while '
            f'{benchmark.label} was measured. The {len(records.rows)} rows '
            f'recorded before are safe in {records.path}; give the same '
            f'command again to go on. The device said: {_line(error)}'
        ) from error
    if is_out_of_memory(error):
        return NO_ROOM
    if isinstance(error, ImportError):
        return f'not available: {error}'
    return f'failed: {_line(error)}'


def _line(error: Exception) -> str:
    """What was raised, and where."""
    lines = str(error).strip().splitlines() or ['']
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f' ({Path(last.filename).name}, line {last.lineno})'
    return f'{type(error).__name__}: {lines[0][:200]}{where}'


def _answers(device: str) -> bool:
    """Whether a GPU still computes."""
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True
