"""One run of a benchmark: what is measured, what is there already, what
does not work, and how long it will take.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from .environment import CIRCUMSTANCES, describe
from .memory import is_out_of_memory, refused_rather_than_killed
from .records import Records
from .setting import Setting

OK, NO_ROOM = 'ok', 'does not fit in memory'
# The doubt of every row of a run that only tries.
TRY = '--quick'
Row = dict[str, object]


class DeviceLost(RuntimeError):
    """The device stopped working in the middle of a run."""


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        key: the columns that tell it from others.
        setting: what it is measured under.
        measure: makes the measured columns, a dict for each row.
        label: what the progress bar calls it.
        cost: how long it takes, in units of the quickest case.
    """

    key: dict[str, object]
    setting: Setting
    measure: Callable[[], Sequence[Row]]
    label: str
    cost: float = 1.0


@dataclass
class Outcome:
    """What became of a run's cases.

    Attributes:
        rows: of all cases, from this run and from earlier ones.
        measured, found: how many cases this run measured, and how many
            were in the file before.
        problems: one line for each case that could not be measured.
        left: labels of cases that no time was left for.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    measured: int = 0
    found: int = 0
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def run(
    cases: Sequence[Case],
    records: Records,
    again: bool = False,
    is_try: bool = False,
    deadline: float | None = None,
    quiet: bool = False,
) -> Outcome:
    """Measure what is not recorded yet, and record it at once.

    A case that does not fit in memory, or fails in any other way that the
    device survives, gets a row that says so, and the run goes on.

    Args:
        cases: what to measure, in this order.
        records: where rows are looked up and added.
        again: measure what is recorded, too.
        is_try: the rows say in ``doubt`` that they are of a try, and only
            another try takes them for measured.
        deadline: no case is begun after it (`time.monotonic`).
        quiet: show no progress bar.

    Raises:
        DeviceLost: the GPU no longer answers.
    """
    records.check_writable()
    outcome = Outcome()
    cases = _distinct(cases)
    known = [
        [] if again else _recorded(case, records, is_try) for case in cases
    ]
    pending = [c for c, rows in zip(cases, known, strict=True) if not rows]
    with tqdm(
        total=sum(case.cost for case in pending),
        bar_format='{percentage:3.0f}% |{bar:20}| {elapsed}<{remaining} '
        '{desc}',
        disable=quiet or not pending,
    ) as bar:
        for case, rows in zip(cases, known, strict=True):
            if rows:
                outcome.found += 1
                outcome.rows += rows
                continue
            if deadline is not None and time.monotonic() > deadline:
                outcome.left.append(case.label)
                continue
            bar.set_description_str(case.label)
            rows = _measure(case, records, is_try)
            outcome.measured += 1
            outcome.rows += rows
            if rows[0]['status'] != OK:
                outcome.problems.append(f'{case.label}: {rows[0]["status"]}')
            bar.update(case.cost)
        bar.set_description_str('')
    return outcome


def is_of_try(row: Mapping[str, str]) -> bool:
    """Whether a row is of a run that only tried."""
    return row['doubt'].startswith(TRY)


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """Each case once, however often it was asked for."""
    return list({repr((c.key, c.setting)): c for c in cases}.values())


def _recorded(
    case: Case, records: Records, tries_count: bool
) -> list[dict[str, str]]:
    environment = describe(case.setting)
    for name in CIRCUMSTANCES:
        del environment[name]
    found = records.find({**case.key, **environment, 'status': OK})
    return [row for row in found if tries_count or not is_of_try(row)]


def _measure(
    case: Case, records: Records, is_try: bool
) -> list[dict[str, str]]:
    """Measure one case and add its rows."""
    before = len(records.rows)
    status = OK
    room = nullcontext() if case.setting.on_gpu else None
    try:
        case.setting.apply()
        torch.manual_seed(0)
        with room or refused_rather_than_killed():
            found = [dict(row) for row in case.measure()]
    except Exception as error:
        status = _status_of(error, case, records)
        found = [{}]
    if case.setting.on_gpu:
        torch.cuda.empty_cache()
    if is_try:
        for row in found:
            row['doubt'] = ', '.join(filter(None, (TRY, row.get('doubt'))))
    environment = describe(case.setting)
    records.append(
        [
            {
                **dict.fromkeys(records.columns[1:], ''),
                **case.key,
                **row,
                'status': status,
                **environment,
            }
            for row in found
        ]
    )
    return records.rows[before:]


def _status_of(error: Exception, case: Case, records: Records) -> str:
    """What a row says about a case that failed."""
    if case.setting.on_gpu and not _answers(case.setting.device):
        raise DeviceLost(
            f'{case.setting.device} no longer answers; it was lost while '
            f'{case.label} was measured. The {len(records.rows)} rows '
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
