"""Check the claims of the paper's text by rules.

The claims are in ``claims.csv``; docs/measuring.md describes the rules. The
same rules apply to measurements and to the paper's own tables, which pass.
"""

import csv
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import NamedTuple

from ..measure.published import Key, speeds
from .results import (
    Measured,
    Results,
    Row,
    measured_of,
    newest_of_machines,
    problem_of,
)

NOT_MEASURED = 'not measured'
DITTO = '"'
CPU, GPU = 'arm', 'gpu'
# How to convert a ratio, and its unit in text. A ratio below 1 means faster
# than the reference in Tables 1 to 4, and slower in Tables 7 and 8.
QUANTITIES: dict[str, tuple[Callable[[float], float], str]] = {
    'times': (lambda ratio: ratio, 'times the time'),
    'slower': (lambda ratio: 100 * (1 - 1 / ratio), '% slower'),
    'faster': (lambda ratio: 100 * (1 / ratio - 1), '% faster'),
}
OPPOSITE = {'% faster': '% slower', '% slower': '% faster'}
PICKS = {'min': min, 'median': statistics.median, 'max': max}
# By row and column of a table: a ratio and its bounds p10 and p90. Nine of ten
# rounds are above p10, and nine of ten below p90.
Ratios = Mapping[tuple[str, str], tuple[float, float, float]]


class Claim(NamedTuple):
    """One claim of the paper, and the rule that decides whether it holds."""

    name: str
    text: str
    said_of: str  # 'gpu', 'arm' or 'any'
    table: str
    # Patterns of the rows and columns of the table that the claim is about.
    rows: str
    columns: str
    quantity: str  # of QUANTITIES
    goal: str  # 'at least' or 'at most' the figure
    # The text has none for g3_arm: the largest loss in the table stands in.
    figure: str
    pick: str  # of PICKS: the ratio that must meet the goal

    def places(self, platform: str = '') -> dict[tuple[str, str], Key]:
        """The rows and columns it is about, on one platform or on both."""
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
REUSE_NETWORK = 'shufflenet_v2_x1_0'
# The paper's batch by kind of measurement, on a CPU and on a GPU.
BATCHES = {
    'guidelines': ('1', '8'),
    'backbones': ('1', '8'),
    'detectors': ('4', '4'),
}
# In order of preference. The paper's protocol fuses element-wise operations,
# and without a CUDA graph a fast GPU waits for the host.
MODES = ('graph', 'folded', 'eager')


def claim_rows(results: Results) -> list[Row]:
    """The table of claims, with a row per claim and machine."""
    rows = []
    for claim in CLAIMS.values():
        first = claim.text, _published(claim)
        found = _answers(claim, _measurements(claim, results))
        for answer in found or [(NOT_MEASURED,) * 3]:
            rows.append((*first, *answer))
            first = DITTO, DITTO
    rows.append(_reuse_row(results))
    titles = 'claim', 'paper', 'measured on', 'here', 'holds here'
    return [dict(zip(titles, row, strict=True)) for row in rows]


def guideline_lines(rows: Iterable[Row]) -> list[str]:
    """What rows of the guidelines say about each claim.

    Every setting and batch has its own lines, also those that the table of
    claims leaves out.
    """
    groups: dict[Hashable, dict[tuple[str, str], Measured]] = {}
    for row in rows:
        each = measured_of('guidelines', '', row)
        where = each.key.table, each.conditions, row['batch']
        # The file may have been edited.
        if all(each.ratio) and not problem_of('guidelines', row):
            groups.setdefault(where, {})[each.key.row, each.key.column] = each
    lines = [
        f'{claim.text}. Holds here: {verdict}, {here} '
        f'({_published(claim)}). Measured on {on}.'
        for claim in CLAIMS.values()
        for on, here, verdict in _answers(claim, groups.values())
    ]
    legend = 'yes: figure reached; less: only the direction; no: neither'
    return [*lines, legend] if lines else []


def _reuse_row(results: Results) -> tuple[str, ...]:
    counted = [
        abs(float(row['value']) - float(row['expected']))
        for row in results.table('feature_reuse')
        if row['network'] == REUSE_NETWORK and row['value'] and row['expected']
    ]
    text, verdict = NOT_MEASURED, NOT_MEASURED
    if counted:
        text = f'{len(counted)} pairs: at most {max(counted):g} channels off'
        verdict = 'yes' if max(counted) < 1 else 'no'
    paper = 'section 3.2: 0.5^j * c'
    return REUSE, paper, f'{REUSE_NETWORK}, counted', text, verdict


def _published(claim: Claim) -> str:
    """What the paper's own table says about a claim."""
    found = [
        f'{title} {finding(claim, ratios)[0]}'
        for title, platform in (('GPU', GPU), ('ARM', CPU))
        if (ratios := published_ratios(claim, platform))
    ]
    return f'{claim.table}: {"; ".join(found)}'


def _answers(
    claim: Claim, groups: Iterable[Mapping[tuple[str, str], Measured]]
) -> list[tuple[str, str, str]]:
    """Where each group was measured, what it says of a claim, the verdict.

    A group has the rows of one table and setting by row and column.
    """
    answers = []
    for chosen in groups:
        ratios = {
            place: tuple(map(float, each.ratio))
            for place, each in chosen.items()
            if place in claim.places()
        }
        one = next(iter(chosen.values()), None)
        # A machine may have measured only other rows of the table, and a GPU
        # does not answer claims about a CPU.
        if not ratios or (claim.said_of == CPU and one.conditions.on_gpu):
            continue
        access = [
            float(text)
            for (row, _), each in chosen.items()
            if claim.table == 'Table 1' and row != '1:1'
            if (text := each.row['memory_access_ratio'])
        ]
        text, verdict = finding(claim, ratios, access)
        if claim.said_of == GPU and not one.conditions.on_gpu:
            verdict += ' (said of a GPU)'
        on = one.conditions.place, f'batch {one.row["batch"]}', _size(one)
        answers.append((', '.join(filter(None, on)), text, verdict))
    return answers


def published_ratios(claim: Claim, platform: str) -> Ratios:
    """The paper's own ratios, on a `GPU` or a `CPU`."""
    found = claim.places(platform).items()
    return {place: (speeds()[key].ratio,) * 3 for place, key in found}


def _measurements(
    claim: Claim, results: Results
) -> list[Mapping[tuple[str, str], Measured]]:
    """What each machine measured of a claim's table, by row and column.

    Only fp32 at the paper's batch counts. Of each machine's settings, this
    takes the newest one that covers most of what the claim is about.
    """
    rows = []
    for each in results.measured:
        if not (each.key and each.key.table == claim.table and each.is_sound):
            continue
        on_gpu = each.conditions.on_gpu
        if (
            all(each.ratio)
            and (each.key.platform == GPU) == on_gpu
            and each.conditions.precision == 'fp32'
            and each.conditions.mode in MODES
            and each.row['batch'] == BATCHES[each.kind][on_gpu]
            # Post-processing is the same in all detectors.
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
    """Check a claim and return its figures as text and the verdict.

    The verdict is ``'yes'``, ``'less'`` (nine of ten rounds agree, but by
    less than the figure) or ``'no'``.

    Args:
        ratios: at least one of those that the claim is about.
        memory_access: memory access of Table 1's unequal rows, relative to
            the equal one.
    """
    convert, unit = QUANTITIES[claim.quantity]
    amounts = [[convert(value) for value in each] for each in ratios.values()]
    text = _text(amounts, unit)
    if claim.places().keys() - ratios.keys():
        columns = dict.fromkeys(column for _, column in ratios)
        text += f' (at {", ".join(columns)} only)'
    if memory_access:
        text += (
            f'; memory access of unequal channels {min(memory_access):.2f} '
            f'to {max(memory_access):.2f} times that of equal ones'
        )
    lowest = [min(bounds) for _, *bounds in amounts]
    if claim.table == 'Table 1':
        return text, 'yes' if min([*memory_access, *lowest]) > 1 else 'no'
    stated = int(claim.figure)
    value = PICKS[claim.pick]([value for value, *_ in amounts])
    if claim.quantity != 'times':
        # Round as the paper does: to tens (20 %), or to whole ones (16 %).
        step = 1 if stated % 10 else 10
        value = step * round(value / step)
    if claim.goal == 'at most':
        return text, 'yes' if value <= stated else 'no'
    if value >= stated:
        return text, 'yes'
    no_effect = 1 if claim.quantity == 'times' else 0
    return text, 'less' if min(lowest) > no_effect else 'no'


def _text(amounts: Sequence[Sequence[float]], unit: str) -> str:
    """Format as ``'41 to 54 % faster'``, or one value with its bounds."""
    digits = 0 if unit in OPPOSITE else 2

    def split(value: float) -> tuple[str, str]:
        """A number and its unit: -6 % faster is 6 % slower."""
        # Adding zero makes a rounded -0 positive.
        value = round(value, digits) + 0
        signed = unit if value >= 0 else OPPOSITE[unit]
        return f'{abs(value):.{digits}f}', signed

    def span(values: Sequence[float], known: str = '') -> str:
        ends = min(values), max(values)
        (low, low_unit), (high, high_unit) = map(split, ends)
        if low_unit != high_unit:
            return f'{low} {low_unit} to {high} {high_unit}'
        if low_unit != unit:
            low, high = high, low
        return f'{low} to {high} {low_unit}'.removesuffix(f' {known}')

    (value, *bounds), *others = amounts
    if others:
        return span([value for value, *_ in amounts])
    number, unit_here = split(value)
    spread = f' ({span(bounds, unit_here)})' if bounds[0] != bounds[1] else ''
    return f'{number} {unit_here}{spread}'
