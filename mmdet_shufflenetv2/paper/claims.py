"""The claims of the paper's text, each put to the test by a rule.

The rule is the same for what was measured here and for the paper's own
tables, all of which it passes. docs/measuring.md has the rules in words.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from .published import RATIOS, Key, key_of, speeds
from .results import (
    ResultFile,
    Row,
    by_machine,
    conditions_of,
    is_measured,
    newest_complete,
    plain_rows,
    rows_of,
)

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


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, and when it holds.

    Attributes:
        text: the sentence.
        said_of: `GPU`, `CPU`, or ``'any'``.
        kind: of the measurements it is about.
        table: of the paper, likewise.
        rows, columns: patterns of those it is about.
        quantity: one of `QUANTITIES`.
        least, most: the figure that has to be reached, or not exceeded.
        pick: which of the ratios has to.
    """

    text: str
    said_of: str
    kind: str
    table: str
    rows: str
    columns: str = '*'
    quantity: str = 'faster'
    least: float | None = None
    most: float | None = None
    pick: Callable[[Sequence[float]], float] = statistics.median

    def is_about(self, key: Key) -> bool:
        """Whether a figure is one that the claim is about."""
        return (
            key.table == self.table
            and fnmatchcase(key.row, self.rows)
            and fnmatchcase(key.column, self.columns)
        )


def _500m(family: str, network: str, least: int) -> Claim:
    return Claim(
        f'GPU, 500 MFLOPs, batch 8: ShuffleNet V2 is {least} % faster than '
        f'{family}',
        GPU,
        'backbones',
        'Table 8',
        network,
        '500M',
        least=least,
    )


CLAIMS = {
    'g1': Claim(
        'G1: at fixed FLOPs a 1x1 convolution has the lowest memory access '
        'cost when in_channels == out_channels',
        'any',
        'guidelines',
        'Table 1',
        '1:12',
        quantity='times',
        least=1,
        pick=min,
    ),
    'g2_gpu': Claim(
        'G2: 8 groups are more than 2x slower than dense on GPU, at fixed '
        'FLOPs',
        GPU,
        'guidelines',
        'Table 2',
        '8 groups',
        quantity='times',
        least=2,
    ),
    'g2_arm': Claim(
        'G2: 8 groups are up to 30 % slower than dense on ARM, at fixed FLOPs',
        CPU,
        'guidelines',
        'Table 2',
        '8 groups',
        quantity='slower',
        most=30,
        pick=max,
    ),
    'g3_gpu': Claim(
        'G3: a 4-fragment structure is 3x slower than 1-fragment on GPU',
        GPU,
        'guidelines',
        'Table 3',
        '4-*',
        'x1',
        quantity='times',
        least=3,
        pick=min,
    ),
    # The text has no figure; this is the largest loss of Table 3.
    'g3_arm': Claim(
        'G3: on ARM the loss by 4 fragments is small',
        CPU,
        'guidelines',
        'Table 3',
        '4-*',
        quantity='slower',
        most=17,
        pick=max,
    ),
    'g4': Claim(
        'G4: about 20 % speedup after ReLU and shortcut are removed',
        'any',
        'guidelines',
        'Table 4',
        'ReLU no, shortcut no',
        least=20,
    ),
    'network_mobilenet_v2': _500m('MobileNet V2', 'mobilenet_v2_*', 58),
    'network_shufflenet_v1': _500m('ShuffleNet V1', 'shufflenet_v1_*', 63),
    'network_xception': _500m('Xception', 'xception_*', 25),
    'detector_shufflenet_v1': Claim(
        'detection, GPU, batch 4: ShuffleNet V2 is about 40 % faster than '
        'ShuffleNet V1',
        GPU,
        'detectors',
        'Table 7',
        'lighthead_shufflenetv1_*',
        least=40,
    ),
    'detector_mobilenet_v2': Claim(
        'detection, GPU, batch 4: ShuffleNet V2 is 16 % faster than '
        'MobileNet V2',
        GPU,
        'detectors',
        'Table 7',
        'lighthead_mobilenetv2_*',
        least=16,
    ),
}
REUSE = (
    'channels directly connected from block i to block i+j: r^j * c with '
    'r = (1 - c_prime/c) = 0.5'
)
REUSING = 'shufflenet_v2_x1_0'
EQUAL = '1:1'
# The paper's batch by kind of measurement, on a CPU and on a GPU.
BATCHES = {
    'guidelines': ('1', '8'),
    'backbones': ('1', '8'),
    'detectors': ('4', '4'),
}
# Of a detector: all others' post-processing is the same.
PART = 'network'
# The paper's protocol fuses element-wise operations; a fast GPU waits for
# the host without a CUDA graph. The first of these that was measured counts.
MODES = ('graph', 'folded', 'eager')


class Ratio(NamedTuple):
    """A ratio, and between what nine of ten rounds were (p10, p90)."""

    value: float
    low: float
    high: float


class Evidence(NamedTuple):
    """What one machine says to one claim.

    Attributes:
        ratios: by row and column, of those that the claim is about.
        memory_access: of Table 1's unequal rows, over that of equal ones.
        on_gpu: whether the machine is a GPU.
        measured_on: machine and setting.
    """

    ratios: Mapping[tuple[str, str], Ratio]
    memory_access: Sequence[float] = ()
    on_gpu: bool = False
    measured_on: str = ''


class Finding(NamedTuple):
    """A claim's figures, and the verdict on them.

    Attributes:
        text: the figures.
        verdict: ``'yes'``, ``'less'`` (nine of ten rounds agree with the
            claim, but by less than its figure) or ``'no'``.
    """

    text: str
    verdict: str


def claim_rows(files: Sequence[ResultFile]) -> list[Row]:
    """The table of claims, a row for each machine that answers one.

    Args:
        files: of the results.
    """
    table = [row for claim in CLAIMS.values() for row in _rows(claim, files)]
    counted = [
        abs(float(row['value']) - float(row['expected']))
        for row in plain_rows(files, 'feature_reuse')
        if row['network'] == REUSING
    ]
    text, verdict = NOT_MEASURED, NOT_MEASURED
    if counted:
        text = f'{len(counted)} pairs: at most {max(counted):g} channels off'
        verdict = 'yes' if max(counted) < 1 else 'no'
    paper = 'section 3.2: 0.5^j * c'
    return [*table, _row(REUSE, paper, f'{REUSING}, counted', text, verdict)]


def _row(claim: str, paper: str, on: str, here: str, holds: str) -> Row:
    return {
        'claim': claim,
        'paper': paper,
        'measured on': on,
        'here': here,
        'holds here': holds,
    }


def _rows(claim: Claim, files: Sequence[ResultFile]) -> list[Row]:
    told = [
        f'{title} {finding(claim, evidence).text}'
        for title, platform in (('GPU', GPU), ('ARM', CPU))
        if (evidence := published(claim, platform)).ratios
    ]
    paper = f'{claim.table}: {"; ".join(told)}'
    rows = []
    for evidence in measured(claim, files):
        text, verdict = finding(claim, evidence)
        if claim.said_of == GPU and not evidence.on_gpu:
            verdict += ' (said of a GPU)'
        said = (claim.text, paper) if not rows else (DITTO, DITTO)
        rows.append(_row(*said, evidence.measured_on, text, verdict))
    return rows or [_row(claim.text, paper, *[NOT_MEASURED] * 3)]


def published(claim: Claim, platform: str) -> Evidence:
    """The paper's own figures.

    Args:
        platform: `GPU` or `CPU`.
    """
    return Evidence(
        {
            (key.row, key.column): Ratio(*[speed.ratio] * 3)
            for key, speed in speeds().items()
            if key.platform == platform and claim.is_about(key)
        }
    )


def measured(claim: Claim, files: Sequence[ResultFile]) -> list[Evidence]:
    """What each machine says to a claim.

    Only fp32 counts, at the paper's batch. Of a machine's settings one does:
    the newest in which everything was measured that the claim is about.

    Args:
        files: of the results.
    """
    rows = [
        row
        for row in rows_of(files, claim.kind)
        if is_measured(row) and _counts(claim, row)
    ]
    found = [_of_machine(claim, each) for each in by_machine(rows)]
    return [evidence for evidence in found if evidence.ratios]


def _counts(claim: Claim, row: Row) -> bool:
    """Whether a row is of the claim's table, in the paper's setting."""
    key, on_gpu = key_of(claim.kind, row), conditions_of(row).on_gpu
    return (
        key is not None
        and key.table == claim.table
        and (key.platform == GPU) == on_gpu
        # What is said of a CPU needs no answer from a GPU.
        and not (claim.said_of == CPU and on_gpu)
        and bool(row[RATIOS[claim.kind]])
        and row['precision'] == 'fp32'
        and row['mode'] in MODES
        and row['batch'] == BATCHES[claim.kind][on_gpu]
        and row.get('part', PART) == PART
    )


def _of_machine(claim: Claim, rows: Sequence[Row]) -> Evidence:
    def place(row: Row) -> tuple[str, str]:
        key = key_of(claim.kind, row)
        return key.row, key.column

    def size(row: Row) -> str:
        return row['input'] if claim.kind == 'detectors' else ''

    wanted = {(k.row, k.column) for k in speeds() if claim.is_about(k)}
    chosen = newest_complete(
        rows,
        place,
        wanted,
        group=lambda row: (conditions_of(row), size(row)),
        prefer=lambda row: -MODES.index(row['mode']),
    )
    one = next(iter(chosen.values()))
    conditions = conditions_of(one)
    words = conditions.place, f'batch {one["batch"]}'
    return Evidence(
        {k: _ratio(claim, row) for k, row in chosen.items() if k in wanted},
        [
            float(row['memory_access_ratio'])
            for (name, _), row in chosen.items()
            if claim.kind == 'guidelines' and name != EQUAL
        ],
        conditions.on_gpu,
        ', '.join(filter(None, (*words, size(one)))),
    )


def _ratio(claim: Claim, row: Row) -> Ratio:
    name = RATIOS[claim.kind]
    return Ratio(*(float(row[f'{name}{end}']) for end in ('', '_p10', '_p90')))


def finding(claim: Claim, evidence: Evidence) -> Finding:
    """Put a claim to the test.

    Args:
        claim: one of `CLAIMS`.
        evidence: of one machine, with at least one ratio.
    """
    amounts = [_amount(each, claim) for each in evidence.ratios.values()]
    text = _text(amounts, claim.quantity)
    wanted = {(k.row, k.column) for k in speeds() if claim.is_about(k)}
    if wanted - evidence.ratios.keys():
        columns = dict.fromkeys(column for _, column in evidence.ratios)
        text += f' (at {", ".join(columns)} only)'
    if claim is not CLAIMS['g1']:
        return Finding(text, _verdict(claim, amounts))
    # Other channels read and write more, and that takes longer.
    access = evidence.memory_access
    if access:
        text += (
            f'; memory access of unequal channels {min(access):.2f} to '
            f'{max(access):.2f} times that of equal ones'
        )
    holds = all(a > 1 for a in access) and all(a.low > 1 for a in amounts)
    return Finding(text, 'yes' if holds else 'no')


def _amount(ratio: Ratio, claim: Claim) -> Ratio:
    value, *ends = map(QUANTITIES[claim.quantity][0], ratio)
    return Ratio(value, min(ends), max(ends))


def _verdict(claim: Claim, amounts: Sequence[Ratio]) -> str:
    stated = claim.most if claim.least is None else claim.least
    value = claim.pick([amount.value for amount in amounts])
    if claim.quantity != 'times':
        # Rounded as the paper did: 20 % may be 17 %, 16 % is not.
        step = 1 if stated % 10 else 10
        value = step * round(value / step)
    if claim.least is None:
        return 'yes' if value <= stated else 'no'
    if value >= stated:
        return 'yes'
    nothing = 1 if claim.quantity == 'times' else 0
    return 'less' if all(a.low > nothing for a in amounts) else 'no'


def _text(amounts: Sequence[Ratio], quantity: str) -> str:
    """Such as ``'41 to 54 % faster'``, or one figure with its spread."""
    digits = 2 if quantity == 'times' else 0
    unit = QUANTITIES[quantity][1]

    def number(value: float) -> str:
        # Adding zero makes a rounded -0 positive.
        return f'{round(value, digits) + 0:.{digits}f}'

    values = sorted(amount.value for amount in amounts)
    if len(values) > 1:
        return f'{number(values[0])} to {number(values[-1])} {unit}'
    (one,) = amounts
    text = f'{number(one.value)} {unit}'
    if one.low < one.high:
        text += f' ({number(one.low)} to {number(one.high)})'
    return text
