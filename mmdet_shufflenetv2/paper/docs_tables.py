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
from torch import nn

from ..backbones.zoo import NETWORKS, build_classifier, network, network_of
from ..errors import UserError
from ..measure.flops import macs
from .claims import NOT_MEASURED, claim_rows
from .figure2 import figure2_rows
from .published import figures, speeds, values
from .results import Measured, Results, Row, by_machine, newest_complete

BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)
PAGES = (
    'README.md',
    'docs/measuring.md',
    'docs/networks.md',
    'docs/analyze.md',
    'docs/versions.md',
)
# Image and batch that training on BCCD has, and what is measured of them.
BCCD_SETTING = '480x360', '4'
BCCD_SPEEDS = {
    'training images/s': 'training step',
    'inference images/s': 'end to end',
}


def filled(text: str, tables: Mapping[str, Sequence[Row]]) -> str:
    """Markdown with every table of it written anew.

    Raises:
        UserError: the text names a table or a column that there is not.
    """

    def fill(match: re.Match) -> str:
        start, name, titles, end = match.groups()
        rows = tables.get(name)
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


def docs_tables(root: Path, results: Results) -> dict[str, list[Row]]:
    """All tables by name: the files of results, and what is computed.

    Args:
        root: of a checkout.
    """
    return {
        **results.tables,
        'table7': table7_rows(root, results),
        'bccd': bccd_rows(results),
        'ops': ops_rows(results),
        'deploy': deploy_rows(results),
        'claims': claim_rows(results),
        'figure2': figure2_rows(results),
        'networks': network_rows(),
        'choices': choice_rows(),
    }


def table7_rows(root: Path, results: Results) -> list[Row]:
    """Table 7 by config: published figures, and mmAP that was reached here."""
    images_per_s = {
        key.row: speed.per_s
        for key, speed in speeds().items()
        if key.table == 'Table 7'
    }
    trained = coco_map(results)
    rows = []
    for key, quantity, published, *_ in figures():
        if quantity == 'mmAP':
            path = f'configs/{key.row}.py'
            model = Config.fromfile(root / path).model
            here = trained.get(key.row)
            rows.append(
                {
                    'complexity': key.column,
                    'config': f'[{key.row}]({path})',
                    'backbone MFLOPs': _mflops(network_of(model.backbone)),
                    'paper: mmAP': f'{published:.1f}',
                    'here: mmAP': f'{here:.1f}' if here else '',
                    'paper: images/s': f'{images_per_s[key.row]:g}',
                }
            )
    return rows


def coco_map(results: Results) -> dict[str, float]:
    """The mmAP in % that configs reached on COCO here."""
    return {
        run['config']: 100 * float(run['mAP'])
        for run in results.table('trained')
        if run['data'].startswith('COCO') and run['mAP']
    }


def bccd_rows(results: Results) -> list[Row]:
    """Backbones trained on BCCD: how good, and how fast on one machine."""
    runs = results.table('bccd_backbones')
    chosen = newest_complete(
        [
            each
            for each in results.sound('detectors')
            if (each.row['input'], each.row['batch']) == BCCD_SETTING
        ],
        lambda each: (each.row['config'], each.row['part']),
        {(run['config'], p) for run in runs for p in BCCD_SPEEDS.values()},
    )
    rows = []
    for run in runs:
        name = run['config']
        row = {
            'config': f'[{name}](configs/{name}.py)',
            'mAP': run['mAP'],
            'AP50': run['AP50'],
            **dict.fromkeys((*BCCD_SPEEDS, 'speed measured on'), ''),
        }
        for title, part in BCCD_SPEEDS.items():
            if each := chosen.get((name, part)):
                row[title] = each.row['images_per_s']
                row['speed measured on'] = each.conditions.place
        rows.append(row)
    return rows


def ops_rows(results: Results) -> list[Row]:
    """How many times as fast as torchvision an op is, on each machine.

    On maps of torchvision's own order, from its slowest case to its fastest.
    """
    rows = [
        each
        for each in results.sound('ops')
        if each.row['map_layout'] == 'as torchvision' and all(each.ratio)
    ]
    found: dict[tuple[str, str], list[Measured]] = {}
    names = 'op', 'passes', 'map', 'rois'
    for of_machine in by_machine(rows):
        chosen = newest_complete(of_machine, lambda m: _cells(m, names))
        for each in chosen.values():
            place = each.row['op'], each.conditions.place
            found.setdefault(place, []).append(each)
    table = []
    for (name, place), cases in sorted(found.items()):
        slower = sum(float(each.ratio[0]) < 1 for each in cases)
        table.append(
            {
                'op': f'`{name}`',
                'forward': _range(cases, 'forward'),
                'forward and backward': _range(cases, 'forward and backward'),
                'slower than torchvision in': f'{slower} of {len(cases)} '
                'cases',
                'measured on': place,
            }
        )
    return table


def _cells(each: Measured, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(each.row[name] for name in names)


def _range(cases: Sequence[Measured], passes: str) -> str:
    times = [float(m.ratio[0]) for m in cases if m.row['passes'] == passes]
    ends = [f'{end:.2g}' for end in (min(times), max(times))] if times else ()
    return ' to '.join(dict.fromkeys(ends))


def deploy_rows(results: Results) -> list[Row]:
    """Exported detectors beside others, on each machine."""
    names = 'case', 'what', 'against', 'input'
    return [
        _deploy_row(each)
        for of_machine in by_machine(results.sound('deploy'))
        for each in newest_complete(
            of_machine, lambda m: _cells(m, names)
        ).values()
    ]


def _deploy_row(each: Measured) -> Row:
    row, extra = each.row, []
    if row['gmac_per_s']:
        rates = row['gmac_per_s'], row['against_gmac_per_s']
        extra.append(f'{" of ".join(rates)} GMAC/s')
    if row['ps_roi_share']:
        extra.append(f'PSRoI align is {float(row["ps_roi_share"]):.0%}')
    if row['peak_mb']:
        extra.append(f'{row["peak_mb"]} against {row["against_peak_mb"]} MB')
    # Of a matrix product the rates are compared.
    times = '' if row['gmac_per_s'] else row['times_faster']
    return {
        'what': f'{row["what"]} {row["input"]}'.strip(),
        'against': row['against'] or '-',
        'ms': row['median_ms'],
        'ms of the other': row['against_ms'] or '-',
        'times as fast': times or '-',
        'besides': ', '.join(extra) or '-',
        'measured on': each.conditions.place,
    }


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
    for layer in model.modules():
        # Costs no multiply-adds, and half of the time of counting them.
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda x: x
    return Cost(macs(model, image) / 1e6, params / 1e6)


def _mflops(name: str) -> str:
    return f'{cost(name).mflops:.1f}'


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
                'MFLOPs here': _mflops(name),
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
