"""The claims of the paper's text, each put to the test by a rule.

They are in ``claims.csv``, the rules in words in docs/measuring.md. A rule is
the same for what was measured here and for the paper's own tables, which pass.
"""

import csv
import statistics
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import NamedTuple

from ..measure.published import Key, speeds
from .results import Measured, Results, Row, newest_of_machines

NOT_MEASURED = 'not measured'
DITTO = '"'
CPU, GPU = 'arm', 'gpu'
# What a ratio says in a claim's unit, and how that reads. Below 1 an item is
# faster than its reference in Tables 1 to 4, slower in Tables 7 and 8.
QUANTITIES: dict[str, tuple[Callable[[float], float], str]] = {
    'times': (lambda ratio: ratio, 'times the time'),
    'slower': (lambda ratio: 100 * (1 - 1 / ratio), '% slower'),
    'faster': (lambda ratio: 100 * (1 / ratio - 1), '% faster'),
}
OPPOSITE = {'% faster': '% slower', '% slower': '% faster'}
PICKS = {'min': min, 'median': statistics.median, 'max': max}
# By row and column of a table: a ratio, and between what nine of ten rounds
# were (p10, p90).
Ratios = Mapping[tuple[str, str], tuple[float, float, float]]


class Claim(NamedTuple):
    """One sentence of the paper, and when it holds."""

    name: str
    text: str
    said_of: str  # 'gpu', 'arm' or 'any'
    table: str
    # Patterns of what it is about in the table.
    rows: str
    columns: str
    quantity: str  # of QUANTITIES
    goal: str  # 'at least' or 'at most' the figure
    # Where the text has none (g3_arm), the largest loss of the table.
    figure: str
    pick: str  # of PICKS: the ratio that has to reach the goal

    def places(self, platform: str = '') -> dict[tuple[str, str], Key]:
        """Rows and columns that it is about, of one platform or of both."""
        return {
            (key.row, key.column): key
            for key in speeds()
            if key.table == self.table
            and (not platform or key.platform == platform)
            and fnmatchcase(key.row, self.rows)
            and fnmatchcase(key.column, self.columns)
        }


_LINES = files(__package__).joinpath('claims.csv').read_text('utf-8')
CLAIMS = {
    row['name']: Claim(**row) for row in csv.DictReader(_LINES.splitlines())
}
REUSE = (
    'channels directly connected from block i to block i+j: r^j * c with '
    'r = (1 - c_prime/c) = 0.5'
)
REUSING = 'shufflenet_v2_x1_0'
# The paper's batch by kind of measurement, on a CPU and on a GPU.
BATCHES = {
    'guidelines': ('1', '8'),
    'backbones': ('1', '8'),
    'detectors': ('4', '4'),
}
# The paper's protocol fuses element-wise operations; a fast GPU waits for
# the host without a CUDA graph. The first of these that was measured counts.
MODES = ('graph', 'folded', 'eager')


def claim_rows(results: Results) -> list[Row]:
    """The table of claims, a row for each machine that answers one."""
    titles = 'claim', 'paper', 'measured on', 'here', 'holds here'
    rows = [row for each in CLAIMS.values() for row in _rows(each, results)]
    rows.append(_reuse(results))
    return [dict(zip(titles, row, strict=True)) for row in rows]


def _reuse(results: Results) -> tuple[str, ...]:
    counted = [
        abs(float(row['value']) - float(row['expected']))
        for row in results.table('feature_reuse')
        if row['network'] == REUSING
    ]
    text, verdict = NOT_MEASURED, NOT_MEASURED
    if counted:
        text = f'{len(counted)} pairs: at most {max(counted):g} channels off'
        verdict = 'yes' if max(counted) < 1 else 'no'
    paper = 'section 3.2: 0.5^j * c'
    return REUSE, paper, f'{REUSING}, counted', text, verdict


def _rows(claim: Claim, results: Results) -> list[tuple[str, ...]]:
    told = [
        f'{title} {finding(claim, ratios)[0]}'
        for title, platform in (('GPU', GPU), ('ARM', CPU))
        if (ratios := published_ratios(claim, platform))
    ]
    said = claim.text, f'{claim.table}: {"; ".join(told)}'
    rows = []
    for chosen in _answers(claim, results):
        ratios = {
            place: tuple(map(float, each.ratio))
            for place, each in chosen.items()
            if place in claim.places()
        }
        # A machine may have measured the rest of the table only.
        if not ratios:
            continue
        access = [
            float(each.row['memory_access_ratio'])
            for (row, _), each in chosen.items()
            if claim.table == 'Table 1' and row != '1:1'
        ]
        text, verdict = finding(claim, ratios, access)
        one = next(iter(chosen.values()))
        if claim.said_of == GPU and not one.conditions.on_gpu:
            verdict += ' (said of a GPU)'
        on = one.conditions.place, f'batch {one.row["batch"]}', _size(one)
        rows.append((*said, ', '.join(filter(None, on)), text, verdict))
        said = DITTO, DITTO
    return rows or [(*said, *[NOT_MEASURED] * 3)]


def published_ratios(claim: Claim, platform: str) -> Ratios:
    """The paper's own, on a `GPU` or a `CPU`."""
    found = claim.places(platform).items()
    return {place: (speeds()[key].ratio,) * 3 for place, key in found}


def _answers(
    claim: Claim, results: Results
) -> list[Mapping[tuple[str, str], Measured]]:
    """What each machine measured of a claim's table, by row and column.

    Only fp32 counts, at the paper's batch. Of a machine's settings one does:
    the newest in which everything was measured that the claim is about.
    """
    rows = []
    for each in results.measured:
        if not (each.key and each.key.table == claim.table and each.is_sound):
            continue
        on_gpu = each.conditions.on_gpu
        if (
            all(each.ratio)
            # What is said of a CPU needs no answer from a GPU.
            and not (claim.said_of == CPU and on_gpu)
            and (each.key.platform == GPU) == on_gpu
            and each.conditions.precision == 'fp32'
            and each.conditions.mode in MODES
            and each.row['batch'] == BATCHES[each.kind][on_gpu]
            # Of a detector: all others' post-processing is the same.
            and each.row.get('part', 'network') == 'network'
        ):
            rows.append(each)
    return newest_of_machines(
        rows,
        lambda each: (each.key.row, each.key.column),
        wanted=claim.places(),
        group=lambda each: (each.conditions, _size(each)),
        prefer=lambda each: -MODES.index(each.conditions.mode),
    )


def _size(each: Measured) -> str:
    return each.row['input'] if each.kind == 'detectors' else ''


def finding(
    claim: Claim, ratios: Ratios, memory_access: Sequence[float] = ()
) -> tuple[str, str]:
    """Put a claim to the test: its figures in words, and the verdict.

    The verdict is ``'yes'``, ``'less'`` (nine of ten rounds agree, but by
    less than the figure) or ``'no'``.

    Args:
        ratios: at least one of those that the claim is about.
        memory_access: of Table 1's unequal rows, over that of equal ones.
    """
    convert, unit = QUANTITIES[claim.quantity]
    amounts = [[convert(value) for value in each] for each in ratios.values()]
    text = _text(amounts, unit)
    if claim.places().keys() - ratios.keys():
        columns = dict.fromkeys(column for _, column in ratios)
        text += f' (at {", ".join(columns)} only)'
    # Other channels read and write more, and that takes longer.
    if memory_access:
        text += (
            f'; memory access of unequal channels {min(memory_access):.2f} '
            f'to {max(memory_access):.2f} times that of equal ones'
        )
    surely = [min(ends) for _, *ends in amounts]
    if claim.table == 'Table 1':
        return text, 'yes' if min([*memory_access, *surely]) > 1 else 'no'
    stated = int(claim.figure)
    value = PICKS[claim.pick]([value for value, *_ in amounts])
    if claim.quantity != 'times':
        # Rounded as the paper did: 20 % may be 17 %, 16 % is not.
        step = 1 if stated % 10 else 10
        value = step * round(value / step)
    if claim.goal == 'at most':
        return text, 'yes' if value <= stated else 'no'
    nothing = 1 if claim.quantity == 'times' else 0
    less = 'less' if min(surely) > nothing else 'no'
    return text, 'yes' if value >= stated else less


def _text(amounts: Sequence[Sequence[float]], unit: str) -> str:
    """Such as ``'41 to 54 % faster'``, or one figure with its spread."""
    digits = 0 if unit in OPPOSITE else 2

    def said(value: float) -> tuple[str, str]:
        """A number and its unit: -6 % faster is 6 % slower."""
        # Adding zero makes a rounded -0 positive.
        value = round(value, digits) + 0
        own = unit if value >= 0 else OPPOSITE[unit]
        return f'{abs(value):.{digits}f}', own

    def span(values: Sequence[float], known: str = '') -> str:
        (low, one), (high, other) = said(min(values)), said(max(values))
        if one != other:
            return f'{low} {one} to {high} {other}'
        if one != unit:
            low, high = high, low
        return f'{low} to {high} {one}'.removesuffix(f' {known}')

    (value, *ends), *others = amounts
    if others:
        return span([value for value, *_ in amounts])
    number, own = said(value)
    spread = f' ({span(ends, own)})' if ends[0] != ends[1] else ''
    return f'{number} {own}{spread}'
