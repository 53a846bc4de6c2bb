"""Where the time of networks goes: Figure 2 of arXiv 1807.11164, as recorded.

``tools/analyze.py --record`` writes a row for each kind of work; here a
network is one row, with a column for each kind of the paper.
"""

from collections.abc import Hashable, Sequence

from .results import (
    OK,
    Results,
    Row,
    conditions_of,
    newest_complete,
    warning_of,
)

# Columns of their own; whatever else a network does is "other".
KINDS = ('convolution', 'element-wise', 'shuffle', 'data movement')
UNEXPLAINED = 'between operations'


def figure2_rows(results: Results) -> list[Row]:
    """A row for each network of ``analysis_cpu.csv``, of one setting."""
    rows = [r for r in results.table('analysis_cpu') if r['status'] == OK]
    rows.sort(key=lambda row: row['date'])

    def setting(row: Row) -> Hashable:
        return conditions_of(row), row['input'], row['batch']

    def record(row: Row) -> Hashable:
        return setting(row), row['network'], row['pass_ms'], row['commit']

    chosen = newest_complete(rows, lambda row: row['network'], group=setting)
    return [
        _row([row for row in rows if record(row) == record(last)])
        for last in chosen.values()
    ]


def _row(record: Sequence[Row]) -> Row:
    shares = {row['kind']: float(row['share']) for row in record}
    first = record[0]
    other = sum(
        share
        for kind, share in shares.items()
        if kind not in (*KINDS, UNEXPLAINED)
    )
    # Multiply-adds a second, as a share of a matrix product's.
    of_peak = float(first['mflops']) / float(first['pass_ms'])
    of_peak /= float(first['peak_gflops_per_s'])
    return {
        'network': first['network'],
        'ms': f'{float(first["pass_ms"]):.1f}',
        **{kind: f'{shares.get(kind, 0):.0%}' for kind in KINDS},
        'other': f'{other:.0%}',
        'unexplained': f'{float(first["unexplained_share"]):.0%}',
        'of peak': f'{of_peak:.0%}',
        'warning': warning_of(first) or 'none',
        'measured on': conditions_of(first).place,
    }
