"""Ratios that a claim can be tested on: published and measured ones alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from ..measure import backbones, detectors
from ..measure.guideline_experiments import TITLES, experiments
from .published import classification_results, published_results
from .results import Row

# What `said_of` of a claim may name, with the paper's batch of Tables 1 to 4
# and 8, and what a network runs as: the first of the modes that was measured.
PLATFORMS = {'gpu': '8', 'arm': '1'}
MODES = ('graph', 'folded', 'eager')
# Of the parts that the published images/s may be of, the one that neither
# reads files nor leaves the detector's own steps out.
DETECTOR_PART = 'detection'
MACHINE = ('device', 'cpu', 'threads', 'layout', 'clock', 'mode')


class Spread(NamedTuple):
    """A ratio, and between what nine of ten rounds were (p10, p90)."""

    value: float
    low: float
    high: float


class Key(NamedTuple):
    """Which ratio: of a table's row, in one of its columns."""

    table: str
    row: str
    column: str


@dataclass
class Evidence:
    """What is known of one platform.

    Attributes:
        ratios: of Tables 1 to 4 times, where the first row is 1; of Tables 7
            and 8 speeds, where ShuffleNet V2 is 1.
        memory_access: of Table 1, where the first row is 1.
        measured_on: a few words on each measurement's conditions, by the
            device's name.
    """

    ratios: dict[Key, Spread] = field(default_factory=dict)
    memory_access: dict[Key, float] = field(default_factory=dict)
    measured_on: dict[str, list[str]] = field(default_factory=dict)

    def select(
        self, table: str, rows: Sequence[str], columns: Sequence[str] = ()
    ) -> dict[Key, Spread]:
        """The ratios of some rows of a table, in some columns or in all."""
        return {
            key: spread
            for key, spread in self.ratios.items()
            if key.table == table
            and key.row in rows
            and (not columns or key.column in columns)
        }


def table_of(guideline: str) -> str:
    """``'G1'`` is about ``'Table 1'``, and so on."""
    return f'Table {guideline[1:]}'


@cache
def published(platform: str) -> Evidence:
    """The paper's own tables.

    Args:
        platform: one of `PLATFORMS`.
    """
    found = Evidence()
    for guideline in TITLES:
        cells = experiments(guideline, platform)
        first: dict[int, float] = {}
        for cell in cells:
            base = first.setdefault(cell.scale, cell.paper_per_s)
            key = Key(table_of(guideline), cell.row, f'x{cell.scale}')
            found.ratios[key] = _exact(base / cell.paper_per_s)
    for family, names in backbones.FAMILIES.items():
        for column, name in zip(backbones.COLUMNS, names, strict=True):
            speeds = [
                getattr(classification_results()[each], _SPEEDS[platform])
                for each in (name, backbones.reference_of(name))
            ]
            key = Key('Table 8', family, column)
            found.ratios[key] = _exact(speeds[0] / speeds[1])
    if platform == 'gpu':
        table = published_results()['table7_coco_lighthead']
        columns = table.pop('complexities')
        bases = table['shufflenet_v2']['images_per_s']
        for family, row in table.items():
            speeds = row['images_per_s']
            for column, *pair in zip(columns, speeds, bases, strict=True):
                key = Key('Table 7', family, column)
                found.ratios[key] = _exact(pair[0] / pair[1])
    return found


_SPEEDS = {'gpu': 'gpu_batches_per_s', 'arm': 'arm_images_per_s'}


def _exact(value: float) -> Spread:
    return Spread(value, value, value)


def measured(rows: Mapping[str, Sequence[Row]], platform: str) -> Evidence:
    """What was measured here in the paper's setting, in 32 bits.

    That is on a GPU for ``'gpu'`` and on a CPU for ``'arm'``. Of several
    machines or numbers of threads the one measured last counts.

    Args:
        rows: by the command that measured them, the last one last.
        platform: one of `PLATFORMS`.
    """
    batch = PLATFORMS[platform]
    found = Evidence()
    for row in _last_machine(
        found,
        'guidelines',
        platform,
        rows['guidelines'],
        dict(batch=batch, platform=platform),
    ):
        key = Key(table_of(row['guideline']), row['row'], row['scale'])
        found.ratios[key] = _spread(row, 'time_ratio')
        found.memory_access[key] = float(row['memory_access_ratio'])
    families = {
        name: family
        for family, names in backbones.FAMILIES.items()
        for name in names
    }
    for row in _last_machine(
        found,
        'networks',
        platform,
        rows['backbones'],
        dict(batch=batch, table='Table 8'),
    ):
        if row['network'] in families:
            key = Key('Table 8', families[row['network']], row['column'])
            found.ratios[key] = _spread(row, 'speed_ratio')
    for row in _last_machine(
        found,
        'detectors',
        platform,
        rows['detectors'],
        dict(batch=str(detectors.PAPER_BATCH), part=DETECTOR_PART),
    ):
        if row['config'] in detectors.TABLE7:
            key = Key('Table 7', *detectors.TABLE7[row['config']])
            found.ratios[key] = _spread(row, 'speed_ratio')
    return found


def _last_machine(
    found: Evidence,
    name: str,
    platform: str,
    rows: Iterable[Row],
    wanted: Mapping[str, str],
) -> list[Row]:
    """The rows in the paper's setting of the last machine there was."""
    wanted = {**wanted, 'precision': 'fp32'}
    rows = [
        row
        for row in rows
        if (row['device'] != 'cpu') == (platform == 'gpu')
        and wanted.items() <= row.items()
        and row['mode'] in MODES
    ]
    if not rows:
        return []
    last = rows[-1]
    same = [row for row in rows if _same(row, last, MACHINE[:-1])]
    mode = min((row['mode'] for row in same), key=MODES.index)
    kept = [row for row in same if row['mode'] == mode]
    if name == 'detectors':
        kept = [row for row in kept if row['input'] == kept[-1]['input']]
    found.measured_on.setdefault(device_name(last), []).append(
        _conditions(name, kept[-1])
    )
    return kept


def _same(row: Row, other: Row, names: Iterable[str]) -> bool:
    return all(row[name] == other[name] for name in names)


def device_name(row: Row) -> str:
    """The GPU's name, or the processor's where it was measured."""
    return row['cpu'] if row['device'] == 'cpu' else row['device']


def _conditions(name: str, row: Row) -> str:
    """Such as ``'detectors with 2 threads, batch 4, 600x400'``."""
    words = [f'batch {row["batch"]}']
    if row['device'] == 'cpu':
        threads = row['threads']
        words.insert(0, f'{threads} thread{"s" * (threads != "1")}')
    if name == 'detectors':
        words.append(row['input'])
    if row['mode'] == 'graph':
        words.append('CUDA graph')
    return f'{name} with {", ".join(words)}'


def _spread(row: Row, name: str) -> Spread:
    return Spread(
        *(float(row[f'{name}{end}']) for end in ('', '_p10', '_p90'))
    )
