"""Published figures: ``published.csv``, one row per figure.

The columns of the file:

- ``table``: table of the ShuffleNet V2 paper, or another source.
- ``platform``: ``gpu`` (GTX 1080Ti), ``arm`` (one thread of a Snapdragon
  810), or empty if the figure does not depend on it.
- ``column``: column of the table: a scale (``x1``) or complexity (``140M``).
- ``row``: a variant, network or config, named as in ``results/*.csv``. Table
  7 and Table 1a of the appendix name only families; a row there is the one
  whose backbone Table 8 lists at that complexity and 224x224.
- ``input``, ``batch``: measured size and batch. No batch if the paper gives
  none, except in Table 1b of the appendix, which gets that of Table 8.
- ``quantity``: ``speed``, ``multiply-adds`` and ``parameters`` (millions),
  ``top-1 error`` on ImageNet, ``mmAP`` on COCO minival.

The first row of a column is the reference of the others.

`columns` lists what to measure; `beside` joins measured and published figures.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Key(NamedTuple):
    """Identifies a published or measured figure, by columns of the file."""

    table: str
    platform: str
    column: str
    row: str
    input: str
    batch: str


class Figure(NamedTuple):
    """One published figure and its source."""

    key: Key
    quantity: str
    value: float
    unit: str
    source: str


class Speed(NamedTuple):
    """A published speed, and its ratio to the first row of its column."""

    # Batches per second on a GPU; images per second on ARM and in Table 7.
    per_s: float
    # A ratio of speeds, or in Tables 1 to 4 of times.
    ratio: float


GUIDELINE_TABLES = ('Table 1', 'Table 2', 'Table 3', 'Table 4')
# Kinds of measurements, with their column for the ratio to a reference. The
# paper has tables for the first three.
KINDS = {
    'guidelines': 'time_ratio',
    'backbones': 'speed_ratio',
    'detectors': 'speed_ratio',
    'shuffle': 'times_faster',
    'ops': 'times_faster',
    'deploy': 'times_faster',
}
PAPER_KINDS = ('guidelines', 'backbones', 'detectors')
# Parts that the images/s of Table 7 may refer to; the paper does not say.
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
    """The rows of a table by column; the first of each is the reference."""
    found: dict[str, dict[str, None]] = {}
    for key, *_ in figures():
        if key.table == table:
            found.setdefault(key.column, {})[key.row] = None
    return {column: list(rows) for column, rows in found.items()}


@cache
def speeds() -> Mapping[Key, Speed]:
    """All published speeds, in the order of the file."""
    found, references = {}, {}
    for key, quantity, value, *_ in figures():
        if quantity == 'speed':
            # Two networks of Table 8 have smaller inputs than the others.
            size = '' if key.table == 'Table 8' else key.input
            column = key._replace(row='', input=size)
            ratio = value / references.setdefault(column, value)
            if key.table in GUIDELINE_TABLES:
                ratio = 1 / ratio
            found[key] = Speed(value, ratio)
    return found


@cache
def values(quantity: str) -> Mapping[str, float]:
    """A quantity that does not depend on a machine, by network or config.

    If two tables have a network, the first in the file counts.
    """
    found = reversed([each for each in figures() if each.quantity == quantity])
    return {each.key.row: each.value for each in found}


def beside(
    kind: str, row: Mapping[str, object]
) -> tuple[Key | None, Speed | None]:
    """Return the key of a measured row and the published speed, if any.

    The key is None if no table of the paper has such rows. ``kind`` is one of
    `KINDS`.
    """
    platform = 'arm' if row['device'] == 'cpu' else 'gpu'
    if kind == 'guidelines':
        table = f'Table {str(row["guideline"])[1:]}'
        # The platform is that of the channels; the paper's batch is unknown.
        where = table, row['platform'], row['scale'], row['row'], '56x56', ''
    elif kind == 'backbones' and row['table']:
        # Drop the channels of e.g. '10 units of xception, 116 channels'.
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
    """Return the paper's columns for a measured row, empty if unpublished."""
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
