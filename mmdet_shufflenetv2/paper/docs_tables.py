"""The tables of README and docs that are computed, and how they are filled in.

A table stands between ``<!-- table NAME: column, column -->`` and ``<!-- end
-->`` and shows those columns of a computed table or of ``results/NAME.csv``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from ..backbones.zoo import NETWORKS, build_classifier, network, network_of
from ..errors import UserError
from ..measure.flops import macs
from .claims import NOT_MEASURED, claim_rows
from .figure2 import figure2_rows
from .published import figures, speeds, values
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

BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)
PAGES = (
    'README.md',
    'docs/measuring.md',
    'docs/networks.md',
    'docs/analyze.md',
    'docs/versions.md',
)
# Image and batch that training on BCCD has, and what is measured of them.
BCCD_INPUT, BCCD_BATCH = '480x360', '4'
BCCD_SPEEDS = {
    'training images/s': 'training step',
    'inference images/s': 'end to end',
}


def filled(
    text: str,
    files: Sequence[ResultFile],
    computed: Mapping[str, Sequence[Row]],
) -> str:
    """Markdown with every table of it written anew.

    Args:
        text: Markdown.
        files: of the results.
        computed: tables that are in no file, by name.

    Raises:
        UserError: a table names a source or a column that there is not.
    """

    def fill(match: re.Match) -> str:
        start, name, titles, end = match.groups()
        rows = computed.get(name) or plain_rows(files, name)
        if not rows:
            raise UserError(f'table {name}: results/{name}.csv has no rows')
        columns = [title.strip() for title in titles.split(',')]
        if absent := [title for title in columns if title not in rows[0]]:
            raise UserError(
                f'table {name} has no column {", ".join(absent)}; it has '
                f'{", ".join(rows[0])}'
            )
        lines = [columns, ['---'] * len(columns)]
        lines += [[row[c] or NOT_MEASURED for c in columns] for row in rows]
        table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
        return start + table + end

    return BLOCK.sub(fill, text)


def computed_tables(
    root: Path, files: Sequence[ResultFile]
) -> dict[str, list[Row]]:
    """All computed tables by name.

    Args:
        root: of a checkout.
        files: of the results.
    """
    return {
        'table7': table7_rows(root, files),
        'bccd': bccd_rows(files),
        'ops': ops_rows(files),
        'deploy': deploy_rows(files),
        'claims': claim_rows(files),
        'figure2': figure2_rows(files),
        'networks': network_rows(),
        'choices': choice_rows(),
    }


def table7_rows(root: Path, files: Iterable[ResultFile]) -> list[Row]:
    """Table 7 by config: published figures, and mmAP that was reached here."""
    images_per_s = {
        key.row: speed.per_s
        for key, speed in speeds().items()
        if key.table == 'Table 7'
    }
    trained = {
        run['config']: f'{100 * float(run["mAP"]):.1f}'
        for run in plain_rows(files, 'trained')
        if run['data'].startswith('COCO')
    }
    rows = []
    for key, quantity, mmap, *_ in figures():
        if quantity == 'mmAP':
            path = f'configs/{key.row}.py'
            model = Config.fromfile(root / path).model
            mflops = cost(network_of(model.backbone)).mflops
            rows.append(
                {
                    'complexity': key.column,
                    'config': f'[{key.row}]({path})',
                    'backbone MFLOPs': f'{mflops:.1f}',
                    'paper: mmAP': f'{mmap:.1f}',
                    'here: mmAP': trained.get(key.row, ''),
                    'paper: images/s': f'{images_per_s[key.row]:g}',
                }
            )
    return rows


def bccd_rows(files: Iterable[ResultFile]) -> list[Row]:
    """Backbones trained on BCCD: how good, and how fast on one machine."""
    files = list(files)
    runs = plain_rows(files, 'bccd_backbones')

    def place(row: Row) -> tuple[str, str]:
        return row['config'], row['part']

    chosen = newest_complete(
        [
            row
            for row in rows_of(files, 'detectors')
            if is_measured(row)
            and (row['input'], row['batch']) == (BCCD_INPUT, BCCD_BATCH)
        ],
        place,
        {(run['config'], p) for run in runs for p in BCCD_SPEEDS.values()},
    )
    rows = []
    for run in runs:
        name = run['config']
        found = {
            title: chosen[name, part]
            for title, part in BCCD_SPEEDS.items()
            if (name, part) in chosen
        }
        places = [conditions_of(row).place for row in found.values()]
        rows.append(
            {
                'config': f'[{name}](configs/{name}.py)',
                'mAP': run['mAP'],
                'AP50': run['AP50'],
                **dict.fromkeys(BCCD_SPEEDS, ''),
                **{title: row['images_per_s'] for title, row in found.items()},
                'speed measured on': next(iter(places), ''),
            }
        )
    return rows


def ops_rows(files: Iterable[ResultFile]) -> list[Row]:
    """How many times as fast as torchvision an op is, on each machine.

    On maps of torchvision's own order, from its slowest case to its fastest.
    """

    def case(row: Row) -> tuple[str, ...]:
        return row['op'], row['passes'], row['map'], row['rois']

    rows = [
        row
        for row in rows_of(files, 'ops')
        if is_measured(row)
        and row['times_faster']
        and row['map_layout'] == 'as torchvision'
    ]
    found: dict[tuple[str, str], list[Row]] = {}
    for of_machine in by_machine(rows):
        for key, row in newest_complete(of_machine, case).items():
            place = conditions_of(row).place
            found.setdefault((key[0], place), []).append(row)
    table = []
    for (name, place), rows in sorted(found.items()):
        times = [float(row['times_faster']) for row in rows]
        table.append(
            {
                'op': f'`{name}`',
                'forward': _range(rows, 'forward'),
                'forward and backward': _range(rows, 'forward and backward'),
                'slower than torchvision in': f'{sum(t < 1 for t in times)} '
                f'of {len(times)} cases',
                'measured on': place,
            }
        )
    return table


def deploy_rows(files: Iterable[ResultFile]) -> list[Row]:
    """Exported detectors beside others, on each machine."""

    def case(row: Row) -> tuple[str, ...]:
        return tuple(row[n] for n in ('case', 'what', 'against', 'input'))

    table = []
    rows = [row for row in rows_of(files, 'deploy') if is_measured(row)]
    for of_machine in by_machine(rows):
        for row in newest_complete(of_machine, case).values():
            extra = []
            if row['gmac_per_s']:
                extra.append(
                    f'{row["gmac_per_s"]} of {row["against_gmac_per_s"]} '
                    'GMAC/s'
                )
            if row['ps_roi_share']:
                share = float(row['ps_roi_share'])
                extra.append(f'PSRoI align is {share:.0%}')
            if row['peak_mb']:
                extra.append(
                    f'{row["peak_mb"]} against {row["against_peak_mb"]} MB'
                )
            table.append(
                {
                    'what': f'{row["what"]} {row["input"]}'.strip(),
                    'against': row['against'] or '-',
                    'ms': row['median_ms'],
                    'ms of the other': row['against_ms'] or '-',
                    # Of a matrix product the rates are compared.
                    'times as fast': '-'
                    if row['gmac_per_s']
                    else row['times_faster'] or '-',
                    'besides': ', '.join(extra) or '-',
                    'measured on': conditions_of(row).place,
                }
            )
    titles = 'what', 'against', 'ms', 'ms of the other', 'times as fast'
    none = dict.fromkeys((*titles, 'besides', 'measured on'), '')
    return table or [none]


def _range(rows: Sequence[Row], passes: str) -> str:
    times = [float(r['times_faster']) for r in rows if r['passes'] == passes]
    if not times:
        return ''
    ends = (f'{end:.2g}' for end in (min(times), max(times)))
    return ' to '.join(dict.fromkeys(ends))


class Cost(NamedTuple):
    """What a classification network costs.

    Attributes:
        mflops: multiply-adds of one image of the network's size, in
            millions.
        params_m: parameters in millions.
    """

    mflops: float
    params_m: float


@cache
def cost(name: str) -> Cost:
    """The cost of a network of the zoo, with 1000 classes.

    Raises:
        ValueError: no network has that name.
    """
    side = network(name).input_size
    with torch.device('meta'):
        model = build_classifier(name).eval()
        image = torch.empty(1, 3, side, side)
    params = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        return Cost(macs(model, image) / 1e6, params / 1e6)


def network_rows(names: Iterable[str] = NETWORKS) -> list[Row]:
    """What each network costs, published and computed.

    Raises:
        ValueError: no network has one of the names.
    """
    notes = {row['what was chosen']: row['note'] for row in choice_rows()}
    rows = []
    for name in names:
        about, here = network(name), cost(name)
        mflops = values('multiply-adds').get(name)
        params_m = values('parameters').get(name)
        rows.append(
            {
                'network': name,
                'image': str(about.input_size),
                'MFLOPs published': _published(mflops, 0),
                'MFLOPs here': f'{here.mflops:.1f}',
                'MFLOPs off by': _off(here.mflops, mflops),
                'M params published': _published(params_m, 1),
                'M params here': f'{here.params_m:.2f}',
                'M params off by': _off(here.params_m, params_m),
                'note': notes.get(about.choice, '-'),
            }
        )
    return rows


def choice_rows() -> list[Row]:
    """What publications leave open and was chosen here, each told once."""
    networks: dict[str, list[str]] = {}
    for name, about in NETWORKS.items():
        if about.choice:
            networks.setdefault(about.choice, []).append(name)
    return [
        {
            'note': str(number),
            'networks': ', '.join(names),
            'what was chosen': choice,
        }
        for number, (choice, names) in enumerate(networks.items(), start=1)
    ]


def _published(value: float | None, decimals: int) -> str:
    return 'not published' if value is None else f'{value:.{decimals}f}'


def _off(here: float, published: float | None) -> str:
    if published is None:
        return '-'
    # Adding zero makes a rounded -0.0 positive.
    return f'{round(100 * (here / published - 1), 1) + 0:+.1f} %'
