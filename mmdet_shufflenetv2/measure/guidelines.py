"""The paper's four guidelines, put to the test on this machine."""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from ..engine.argument_types import positive_int
from .command import Command, Rows, effort, settings
from .guideline_experiments import (
    PLATFORMS,
    TITLES,
    Experiment,
    experiments,
    predict,
)
from .networks import inference, place
from .session import Case, Row
from .setting import Setting
from .timing import (
    TIMED,
    Effort,
    compared,
    interleave,
    ratio_names,
    significant,
)

# The row of each table that shows its guideline best, and whether it is
# expected to take longer than the first row, or shorter.
TELLING = {
    'G1': ('1:12', 'longer'),
    'G2': ('8 groups', 'longer'),
    'G3': ('4-parallel', 'longer'),
    'G4': ('ReLU no, shortcut no', 'shorter'),
}


def _measure(
    cell: Experiment,
    first: Experiment,
    batch: int,
    setting: Setting,
    effort: Effort,
) -> list[Row]:
    def step(experiment: Experiment):
        network = experiment.build().eval().requires_grad_(False)
        return inference(
            place(network, setting), experiment.shape(batch), setting
        )

    functions = {'first': step(first)}
    if cell is not first:
        functions['cell'] = step(cell)
    times = interleave(functions, setting.stopwatch(), effort)
    mine = times.get('cell', times['first'])
    flops, memory_access = predict(cell, batch)
    _, first_access = predict(first, batch)
    columns = mine.columns()
    return [
        {
            **columns,
            'per_s': significant(1e3 / columns['median_ms']),
            **compared('time_ratio', mine, times['first']),
            'paper_per_s': cell.paper_per_s,
            'paper_time_ratio': round(first.paper_per_s / cell.paper_per_s, 3),
            'memory_access_ratio': round(memory_access / first_access, 3),
            'flops_m': round(flops / batch / 1e6, 1),
        }
    ]


def cases(args: argparse.Namespace) -> list[Case]:
    """One case for each cell, timed in turn with its scale's first row."""
    wanted = settings(args)
    on_gpu = args.device != 'cpu'
    platform = args.platform or ('gpu' if on_gpu else 'arm')
    batches = args.batch or ([8, 1] if on_gpu else [1])
    found = []
    for setting in wanted:
        for batch in batches:
            for guideline in args.guidelines or TITLES:
                found += _cases_of(
                    guideline, platform, batch, setting, effort(args)
                )
    return found


def _cases_of(
    guideline: str, platform: str, batch: int, setting: Setting, effort: Effort
) -> Iterator[Case]:
    first = None
    for cell in experiments(guideline, platform):
        if first is None or cell.scale != first.scale:
            first = cell
        yield Case(
            key={
                'guideline': guideline,
                'platform': platform,
                'scale': f'x{cell.scale}',
                'row': cell.row,
                'channels': '-'.join(map(str, cell.channels)),
                'batch': batch,
            },
            setting=setting,
            measure=partial(_measure, cell, first, batch, setting, effort),
            label=f'{guideline} x{cell.scale} {cell.row}, batch {batch}, '
            f'{setting.precision}',
            cost=1 + cell.scale,
        )


def verdicts(rows: Rows) -> list[str]:
    """One sentence for each guideline and setting: does it hold here?

    It holds at a scale where nine of ten rounds agree with it.
    """

    def kind(row: dict[str, str]) -> tuple[str, ...]:
        names = ('guideline', 'batch', 'precision', 'mode', 'layout')
        return tuple(row[name] for name in names)

    told = [
        row
        for row in rows
        if row['status'] == 'ok' and row['row'] == TELLING[row['guideline']][0]
    ]
    return [
        _verdict(list(group))
        for _, group in groupby(sorted(told, key=kind), kind)
    ]


def _verdict(rows: Sequence[dict[str, str]]) -> str:
    guideline = rows[0]['guideline']
    row, expected = TELLING[guideline]
    if expected == 'longer':
        holds = [float(r['time_ratio_p10']) > 1 for r in rows]
    else:
        holds = [float(r['time_ratio_p90']) < 1 for r in rows]
    at = [r['scale'] for r, held in zip(rows, holds, strict=True) if held]
    answer = f'holds here at {", ".join(at)} only' if at else 'does not hold'
    if all(holds):
        answer = 'holds here'

    def span(column: str) -> str:
        values = [float(r[column]) for r in rows]
        return f'{min(values):.2f} to {max(values):.2f}'

    return (
        f'{guideline} ({TITLES[guideline]}) {answer}: {row} takes '
        f'{span("time_ratio")} times the time of the first row (paper: '
        f'{span("paper_time_ratio")}; memory access: '
        f'{span("memory_access_ratio")}). Batch {rows[0]["batch"]}, '
        f'{rows[0]["precision"]}, {rows[0]["mode"]}.'
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'guidelines',
        nargs='*',
        type=_guideline,
        metavar='GUIDELINE',
        help=f'{" ".join(TITLES)}; default: all',
    )
    parser.add_argument(
        '--batch',
        nargs='+',
        type=positive_int,
        help='default: 1; on a GPU 8 and 1',
    )
    parser.add_argument(
        '--platform',
        choices=PLATFORMS,
        help="whose channels; default: the paper's for such a device",
    )


def _guideline(text: str) -> str:
    if text not in TITLES:
        raise argparse.ArgumentTypeError(
            f'one of {", ".join(TITLES)} is allowed, got {text!r}'
        )
    return text


COMMAND = Command(
    name='guidelines',
    help='Tables 1 to 4: do the four guidelines hold on this machine?',
    example='G1 G3 --device cuda',
    columns=(
        'guideline',
        'platform',
        'scale',
        'row',
        'channels',
        'batch',
        *TIMED,
        *ratio_names('time_ratio'),
        'per_s',
        'paper_per_s',
        'paper_time_ratio',
        'memory_access_ratio',
        'flops_m',
    ),
    shown={
        '': 'guideline',
        'scale': 'scale',
        'variant': 'row',
        'channels': 'channels',
        'batch': 'batch',
        'ms': 'median_ms',
        'per s': 'per_s',
        'paper per s': 'paper_per_s',
        'time, first row = 1': 'time_ratio',
        'p10': 'time_ratio_p10',
        'p90': 'time_ratio_p90',
        'paper': 'paper_time_ratio',
        'memory access': 'memory_access_ratio',
        'doubt': 'doubt',
    },
    cases=cases,
    add_arguments=add_arguments,
    threads=1,
    modes=('eager',),
    effort=Effort(min_runs=10, max_runs=100, seconds=3, warmup_seconds=2),
    summary=verdicts,
)
