"""Where the time of networks goes: Figure 2 of arXiv 1807.11164, as recorded.

``tools/analyze.py --record`` writes a row for each kind of work; here a
network is one row, with a column for each kind of the paper.
"""

import csv
from collections import defaultdict
from pathlib import Path

from .networks import Row

# Columns of their own; whatever else a network does is "other".
KINDS = ('convolution', 'element-wise', 'shuffle', 'data movement')
UNEXPLAINED = 'between operations'


def figure2_rows(results: Path) -> list[Row]:
    """A row for each network of ``analysis_cpu.csv``, the last record of it.

    Args:
        results: folder of the results.
    """
    records: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    with (results / 'analysis_cpu.csv').open(newline='') as file:
        for record in csv.DictReader(file):
            kinds = records[record['network']]
            # The first kind begins a new record of the network.
            if record['kind'] in kinds:
                kinds.clear()
            kinds[record['kind']] = record
    return [_row(name, kinds) for name, kinds in records.items()]


def _row(name: str, kinds: dict[str, dict[str, str]]) -> Row:
    shares = {kind: float(record['share']) for kind, record in kinds.items()}
    first = next(iter(kinds.values()))
    other = sum(
        share
        for kind, share in shares.items()
        if kind not in (*KINDS, UNEXPLAINED)
    )
    return {
        'network': name,
        'ms': f'{float(first["pass_ms"]):.1f}',
        **{kind: f'{shares.get(kind, 0):.0%}' for kind in KINDS},
        'other': f'{other:.0%}',
        'unexplained': f'{float(first["unexplained_share"]):.0%}',
        'of peak GFLOP/s': f'{_of_peak(first):.0%}',
        'doubt': first['doubt'] or 'none',
    }


def _of_peak(record: dict[str, str]) -> float:
    """Multiply-adds a second, as a share of a matrix product's."""
    gflops_per_s = float(record['mflops']) / float(record['pass_ms'])
    return gflops_per_s / float(record['peak_gflops_per_s'])
