"""Tables that are not the paper's speeds: accuracy, ops, files as they are."""

from collections.abc import Iterable, Sequence

from ..measure.command import Command
from ..measure.command_line import COMMANDS
from ..measure.detectors import TABLE7
from ..measure.session import OK
from .claims import NOT_MEASURED
from .comparison import NONE, Column, Line, Table, setting_name
from .detectors import COCO
from .evidence import device_name
from .published import published_results
from .results import ResultFile, Row

# The commands whose measurements the paper has nothing beside.
WITHOUT_PAPER = {
    'ops': "Ops: PSRoI pooling against torchvision's",
    'shuffle': 'Shuffle: channel split and shuffle against the plain way',
}
TITLES = {
    'trained': 'Trainings',
    'bccd_backbones': 'Trainings on BCCD: backbones compared',
    'versions': 'Versions: what was run',
    'feature_reuse': 'Figure 4: reuse of features',
}
# What tells under which conditions a row was measured.
CONDITIONS = (
    'device',
    'cpu',
    'threads',
    'cores',
    'precision',
    'layout',
    'mode',
    'clock',
    'torch',
    'python',
)


def accuracy_table(files: Sequence[ResultFile]) -> Table:
    """Table 7's mmAP beside what was trained on COCO here."""
    trained: dict[str, Row] = {}
    for file in files:
        if file.path.name == 'trained.csv':
            for row in file.rows:
                if row.get('data', '').startswith(COCO):
                    trained[row.get('config', '')] = row
    published = published_results()['table7_coco_lighthead']
    columns = published.pop('complexities')
    lines = []
    for stem, (family, column) in TABLE7.items():
        paper = published[family]['mmap'][columns.index(column)]
        here, ratio, device = NOT_MEASURED, NONE, ''
        if stem in trained:
            row = trained[stem]
            here, ratio = _percent(row.get('mAP', ''), paper)
            device = row.get('device', '')
        cells = (column, stem, f'{paper:.1f}', here, ratio, device or NONE)
        lines.append(Line(cells, device))
    return Table(
        'table7-mmap',
        'Table 7: Light-Head R-CNN, mmAP on COCO',
        'In %, trained on COCO by the recipe of the config.',
        (
            Column('column'),
            Column('config'),
            Column('paper', True, 'mmAP'),
            Column('here', True, 'mmAP'),
            Column('here / paper', True, 'mmAP'),
            Column('device'),
        ),
        lines,
    )


def _percent(text: str, paper: float) -> tuple[str, str]:
    """A fraction in %, and its ratio to the paper's, as texts."""
    try:
        value = 100 * float(text)
    except ValueError:
        return text, NONE
    return f'{value:.1f}', f'{value / paper:.3g}'


def command_table(name: str, rows: Iterable[Row]) -> Table:
    """Measurements of a command that the paper has nothing beside."""
    command: Command = COMMANDS[name]
    titles = [title.strip() for title in command.shown]
    lines = []
    for row in rows:
        cells = [row[column] or NONE for column in command.shown.values()]
        if row['status'] != OK:
            cells[titles.index('ours ms')] = row['status']
        place = device_name(row), setting_name(row)
        lines.append(Line((*cells, *place), *place))
    return Table(
        name,
        WITHOUT_PAPER[name],
        '' if lines else f'Not measured: {_advice(name)}',
        (
            *(Column(t, _is_number(t)) for t in titles),
            Column('device'),
            Column('setting'),
        ),
        lines,
    )


def _is_number(title: str) -> bool:
    return title in ('p10', 'p90', 'times faster') or title.endswith('ms')


def _advice(name: str) -> str:
    return f'python tools/benchmark.py {name}'


def plain_table(file: ResultFile) -> Table:
    """A file that no command of the benchmark wrote, as it is."""
    lines = []
    for row in file.rows:
        cells = tuple(row[name] or NONE for name in file.columns)
        lines.append(Line(cells, row.get('device', '')))
    return Table(
        f'file-{file.path.stem}',
        TITLES.get(file.path.stem, file.path.name),
        f'As it is in {file.path.name}.',
        tuple(map(Column, file.columns)),
        lines,
    )


def environment_table(files: Sequence[ResultFile]) -> Table:
    """What measurements were made on, when, and of which commit."""
    found: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
    for file in files:
        for row in file.rows if file.kind else ():
            key = tuple(row[name] for name in CONDITIONS)
            found.setdefault(key, []).append((file.path.name, row))
    lines = []
    for key, group in found.items():
        rows = [row for _, row in group]
        dates = sorted({row['date'] for row in rows})
        names = ', '.join(dict.fromkeys(name for name, _ in group))
        commits = ', '.join(dict.fromkeys(row['commit'] for row in rows))
        span = ' to '.join(dict.fromkeys((dates[0], dates[-1])))
        cells = (*key, span, commits, names, str(len(rows)))
        lines.append(Line(cells, device_name(rows[0]), setting_name(rows[0])))
    return Table(
        'environment',
        'Environment',
        '' if lines else 'Nothing was measured yet.',
        (
            *map(Column, CONDITIONS),
            Column('date'),
            Column('commit'),
            Column('file'),
            Column('rows', True),
        ),
        lines,
    )
