"""The paper's tables of speeds: 1 to 4, 7, 8 and those of the appendix."""

import re
from collections.abc import Mapping
from functools import cache, partial

from ..backbones.zoo import network
from ..measure import (
    backbones,
    detectors,
    guideline_experiments,
    stacked_units,
)
from .comparison import Comparison, Key, Paper
from .evidence import table_of
from .published import classification_results, published_results
from .results import Row

SPEED = 'speed, ShuffleNet V2 = 1'
PAPER_INPUT = '{}x{}'.format(*detectors.PAPER_SIZE)
_UNITS = re.compile(r'\d+ units of (\w+),')


@cache
def _guideline(name: str, platform: str) -> Mapping[Key, Paper]:
    found, first = {}, {}
    for cell in guideline_experiments.experiments(name, platform):
        base = first.setdefault(cell.scale, cell.paper_per_s)
        channels = '-'.join(map(str, cell.channels))
        key = (f'x{cell.scale}', cell.row, channels)
        found[key] = Paper(cell.paper_per_s, base / cell.paper_per_s)
    return found


def _guideline_key(name: str, row: Row) -> Key | None:
    if row['guideline'] != name:
        return None
    return row['scale'], row['row'], row['channels']


def _network(name: str, size: tuple[int, int], on_gpu: bool) -> Paper:
    batch = backbones.paper_batch(size, backbones.column_of(name), on_gpu)
    mine, other = (
        backbones.paper_per_s(each, size, batch, on_gpu)
        for each in (name, backbones.reference_of(name))
    )
    return Paper(mine, mine / other if mine and other else None)


@cache
def _table8(platform: str) -> Mapping[Key, Paper]:
    found = {}
    for name, result in classification_results().items():
        if result.complexity:
            side = network(name).input_size
            key = (result.complexity, name, f'{side}x{side}')
            own = backbones.OWN_SIZE
            found[key] = _network(name, own, platform == 'gpu')
    return found


@cache
def _appendix_a(platform: str) -> Mapping[Key, Paper]:
    families = backbones.FAMILIES.values()
    found = {}
    for size in backbones.SIZES[1:]:
        for place, column in enumerate(backbones.COLUMNS):
            for names in families:
                name = names[place]
                key = (column, name, '{}x{}'.format(*size))
                found[key] = _network(name, size, platform == 'gpu')
    return found


def _backbone_key(table: str, row: Row) -> Key | None:
    if row['table'] != table:
        return None
    return row['column'], row['network'], row['input']


@cache
def _appendix_b(platform: str) -> Mapping[Key, Paper]:
    column = 'gpu' if platform == 'gpu' else 'cpu'
    found = {}
    for size, table in published_results()['appendix_table1b'].items():
        for place, channels in enumerate(stacked_units.CHANNELS):
            base = table[stacked_units.REFERENCE][column][place]
            for family, speeds in table.items():
                speed = speeds[column][place]
                key = (f'c{channels}', family, size)
                found[key] = Paper(speed, speed / base)
    return found


def _units_key(row: Row) -> Key | None:
    match = _UNITS.match(row['network'])
    if row['table'] != 'Appendix Table 1b' or not match:
        return None
    return row['column'], match[1], row['input']


@cache
def _table7(platform: str) -> Mapping[Key, Paper]:
    if platform != 'gpu':
        return {}
    table = published_results()['table7_coco_lighthead']
    columns = table.pop('complexities')
    found = {}
    for stem, (family, column) in detectors.TABLE7.items():
        place = columns.index(column)
        speed = table[family]['images_per_s'][place]
        base = table['shufflenet_v2']['images_per_s'][place]
        for part in detectors.PAPER_PARTS:
            key = (column, stem, part, PAPER_INPUT)
            found[key] = Paper(speed, speed / base)
    return dict(sorted(found.items(), key=_column_first))


def _column_first(item: tuple[Key, Paper]) -> int:
    return detectors.COLUMNS.index(item[0][0])


def _detector_key(row: Row) -> Key:
    return row['column'], row['config'], row['part'], row['input']


def _table7_ratio(key: Key) -> float | None:
    """Of a GPU and larger images, for want of a nearer one."""
    paper = _table7('gpu').get((*key[:-1], PAPER_INPUT))
    return paper.ratio if paper else None


def _of_guideline(name: str, title: str) -> Comparison:
    text = title.rpartition(' (')[0]
    return Comparison(
        name=name.lower(),
        title=f'{table_of(name)}: {text}',
        note='',
        kind='guidelines',
        identity=('scale', 'variant', 'channels'),
        key_of=partial(_guideline_key, name),
        paper=partial(_guideline, name),
        ratio='time_ratio',
        ratio_title='time, first row = 1',
    )


COMPARISONS = (
    *(_of_guideline(*item) for item in guideline_experiments.TITLES.items()),
    Comparison(
        name='table7',
        title='Table 7: Light-Head R-CNN, images per second',
        note='The paper measured a GPU at batch 4 and 800x1200 and does not '
        'say which of the parts; its ratios stand beside every device.',
        kind='detectors',
        identity=('column', 'config', 'part', 'input'),
        key_of=_detector_key,
        paper=_table7,
        ratio='speed_ratio',
        ratio_title=SPEED,
        unit='images',
        elsewhere=_table7_ratio,
    ),
    Comparison(
        name='table8',
        title='Table 8: whole networks',
        note='GPU at batch 8; ARM with one thread at batch 1.',
        kind='backbones',
        identity=('column', 'network', 'input'),
        key_of=partial(_backbone_key, 'Table 8'),
        paper=_table8,
        ratio='speed_ratio',
        ratio_title=SPEED,
    ),
    Comparison(
        name='appendix1a',
        title='Appendix, Table 1a: whole networks on larger images',
        note='',
        kind='backbones',
        identity=('column', 'network', 'input'),
        key_of=partial(_backbone_key, 'Appendix Table 1a'),
        paper=_appendix_a,
        ratio='speed_ratio',
        ratio_title=SPEED,
    ),
    Comparison(
        name='appendix1b',
        title='Appendix, Table 1b: ten units in series at equal FLOPs',
        note='',
        kind='backbones',
        identity=('column', 'units of', 'maps'),
        key_of=_units_key,
        paper=_appendix_b,
        ratio='speed_ratio',
        ratio_title=SPEED,
    ),
)
