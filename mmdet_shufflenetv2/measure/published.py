"""The published figures: ``published.csv``, one row per figure.

The columns of the file:

- ``table``: of the ShuffleNet V2 paper, or where else the figure stands.
- ``platform``: ``gpu`` (GTX 1080Ti), ``arm`` (one thread of a Snapdragon
  810), or empty where a figure does not depend on it.
- ``column``: of the table: a scale (``x1``) or a complexity (``140M``).
- ``row``: a variant, a network or a config, called as in ``results/*.csv``.
  Table 7 names families only: a row is the config whose backbone Table 8 has
  at that complexity and 224x224; so does Table 1a of the appendix.
- ``input``, ``batch``: what it was measured on; no batch where the paper has
  none. For Table 1b of the appendix, which has none either, it is Table 8's.
- ``quantity``: ``speed``, ``multiply-adds`` and ``parameters`` (millions),
  ``top-1 error`` on ImageNet, ``mmAP`` on COCO minival.

The first row of a column is the one that the others are compared with.

`columns` is what to measure, `beside` the one join of these figures with what
was measured.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Key(NamedTuple):
    """What a figure is about, published or measured; see ``published.csv``."""

    table: str
    platform: str
    column: str
    row: str
    input: str
    batch: str


class Figure(NamedTuple):
    """One published figure and where it stands."""

    key: Key
    quantity: str
    value: float
    unit: str
    source: str


class Speed(NamedTuple):
    """A published speed, and its ratio to that of its column's first row."""

    # Batches on a GPU, images on ARM and in Table 7.
    per_s: float
    # Of speeds; in Tables 1 to 4 of times.
    ratio: float


GUIDELINE_TABLES = ('Table 1', 'Table 2', 'Table 3', 'Table 4')
# What measurements are called, and their column of a ratio to a reference. Of
# the first three kinds the paper has tables.
KINDS = {
    'guidelines': 'time_ratio',
    'backbones': 'speed_ratio',
    'detectors': 'speed_ratio',
    'shuffle': 'times_faster',
    'ops': 'times_faster',
    'deploy': 'times_faster',
}
PAPER_KINDS = ('guidelines', 'backbones', 'detectors')
# What the images/s of Table 7 may mean; the paper does not say.
PAPER_PARTS = ('network', 'detection', 'end to end')


@cache
def figures() -> tuple[Figure, ...]:
    """All published figures, in the order of the file."""
    text = files(__package__).joinpath('published.csv').read_text('utf-8')
    found = []
    for table, *row in list(csv.reader(text.splitlines()))[1:]:
        *key, quantity, value, unit, source = row
        key = Key(table, *key)
        found.append(Figure(key, quantity, float(value), unit, source))
    return tuple(found)


@cache
def columns(table: str) -> Mapping[str, list[str]]:
    """The rows of a table by column; the first one is the reference."""
    found: dict[str, dict[str, None]] = {}
    for key, *_ in figures():
        if key.table == table:
            found.setdefault(key.column, {})[key.row] = None
    return {column: list(rows) for column, rows in found.items()}


@cache
def speeds() -> Mapping[Key, Speed]:
    """All published speeds, a column of a table after the other."""
    found, references = {}, {}
    for key, quantity, value, *_ in figures():
        if quantity == 'speed':
            # Two of Table 8's networks have smaller images than the others.
            size = '' if key.table == 'Table 8' else key.input
            column = key._replace(row='', input=size)
            ratio = value / references.setdefault(column, value)
            if key.table in GUIDELINE_TABLES:
                ratio = 1 / ratio
            found[key] = Speed(value, ratio)
    return found


@cache
def values(quantity: str) -> Mapping[str, float]:
    """A quantity that depends on no machine, by network or config.

    Of two tables that have a network the first in the file counts.
    """
    found = reversed([each for each in figures() if each.quantity == quantity])
    return {each.key.row: each.value for each in found}


def beside(
    kind: str, row: Mapping[str, object]
) -> tuple[Key | None, Speed | None]:
    """What a measured row is about, and the speed published of the same.

    None if no table of the paper is about that kind (of `KINDS`) of row.
    """
    platform = 'arm' if row['device'] == 'cpu' else 'gpu'
    if kind == 'guidelines':
        table = f'Table {str(row["guideline"])[1:]}'
        # Whose channels it has; the paper's batch is not known.
        where = table, row['platform'], row['scale'], row['row'], '56x56', ''
    elif kind == 'backbones' and row['table']:
        # '10 units of xception, 116 channels': equal FLOPs say how many.
        network = str(row['network']).partition(',')[0]
        where = row['table'], platform, row['column'], network
        where += row['input'], row['batch']
    elif kind == 'detectors' and row['column']:
        where = 'Table 7', platform, row['column'], row['config']
        where += row['input'], row['batch']
    else:
        return None, None
    key = Key(*map(str, where))
    if row.get('part', PAPER_PARTS[0]) not in PAPER_PARTS:
        return key, None
    return key, speeds().get(key)


def annotate(kind: str, row: Mapping[str, object]) -> dict[str, object]:
    """The paper's columns of a row to be recorded, empty without a figure."""
    if kind not in PAPER_KINDS:
        return {}
    _, speed = beside(kind, row)
    found = {
        'paper_per_s': f'{speed.per_s:g}' if speed else '',
        f'paper_{KINDS[kind]}': f'{speed.ratio:.4g}' if speed else '',
    }
    if kind == 'backbones':
        mflops = values('multiply-adds').get(row['network'])
        found['paper_mflops'] = '' if mflops is None else f'{mflops:g}'
    return found
